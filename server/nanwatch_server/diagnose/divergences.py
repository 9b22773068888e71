"""Causes of numbers that grow, overflow or turn into NaN. Entries of the table in `syndromes`."""

from __future__ import annotations

import math
from collections.abc import Callable

from nanwatch_server.diagnose import divergence_tries as tries
from nanwatch_server.diagnose.case import SUDDEN, Case, parse
from nanwatch_server.diagnose.syndrome import CRITICAL, Syndrome
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number

OF_LOSS = ("loss_explosion", "loss_growth", "loss_divergence", "loss_spike", "task_shock",
           "joint_rise", "surge", "loss_means")  # fmt: skip
"""Rules on the loss."""
RISES = (*OF_LOSS, "grad_explosion", "grad_level", "grad_spike", "clip_saturation", "weight_leap",
         "weight_growth", "adam_rms")  # fmt: skip
"""Rules on what grows before it overflows, also as notices."""
FIRST_STEPS, EARLY_STEPS, SOON_STEPS = 8, 30, 150
"""Trouble that begins and is seen before these steps owes nothing to what was learnt."""
ALL_SKIPPED = 100
"""Skips in a row after which whatever began it is over: nothing is learnt any more."""

# --- signs: evidence for and against beyond the findings -----------------------------------------


def _signs_gradient(case: Case) -> tuple[list[str], list[str]]:
    pro, contra = _clipping(case)
    if case.untruncated:
        pro.append(f"Gradients flow through {case.length} time steps without truncation.")
    elif case.recurrent:
        pro.append("The model is recurrent: each time step multiplies the gradient.")
    return pro, contra


def _clipping(case: Case) -> tuple[list[str], list[str]]:
    """What is known of a clip, and from where."""
    bounds = f"clip of {number(case.clip)}, which bounds the size of each update."
    if case.unclipped:
        return ["Gradients are not clipped."], []
    if case.clip_source == "data":
        return [], [f"There is a {bounds}"]
    if case.clip_source == "configuration":
        # our own SDK sees torch's clips at work
        check = " None was seen at work: check that it is called." if case.clip_unseen else ""
        return [], [f"The configuration asks for a {bounds}{check}"]
    if case.clip_source == "default":
        return [], [f"Unless told otherwise, the Trainer of transformers has a {bounds}"]
    return [], []


def _signs_hidden(case: Case) -> tuple[list[str], list[str]]:
    pro, contra = [], []
    if case.untruncated:
        pro.append(f"Gradients flow through {case.length} time steps without truncation.")
    elif case.recurrent:
        pro.append("The model is recurrent: each time step multiplies the gradient.")
    if not case.has("grad_explosion"):
        contra.append("The norm before clipping is large but was not seen to grow exponentially.")
    return pro, contra


def _signs_values(case: Case) -> tuple[list[str], list[str]]:
    pro, contra = [], []
    if case.reward > 0:
        said = f"Largest |reward| seen is {number(case.reward)}."
        (pro if case.large_rewards else contra).append(said)
    if not case.has("q_growth"):
        contra.append("Q-values themselves are within their bound or not logged.")
    return pro, contra


def _signs_bootstrap(case: Case) -> tuple[list[str], list[str]]:
    known = case.reward > 0
    said = [f"Rewards are modest (up to {number(case.reward)}), so scale is not it."]
    return (said, []) if known else ([], ["No reward is logged: its scale may be the cause."])


def _signs_skipped(case: Case) -> tuple[list[str], list[str]]:
    pro, contra = _signs_hidden(case)
    return pro, [c for c in contra if not c.startswith("The norm")]


def _signs_replay(case: Case) -> tuple[list[str], list[str]]:
    if case.empty_memory:
        said = "Weights get no gradient where all their inputs are 0: states that lost their "
        return [f"{said}values on the way into the buffer, as by a cast to whole numbers."], []
    if case.blown_rewards:
        said = f"Rewards were small when it began and reach {number(case.reward)}: what makes "
        return [f"{said}them has broken, as a simulator with too long a time step does."], []
    pro = ["Stored outputs are replayed into the loss, so a bad row comes back again and again."]
    if case.half_precision:
        pro.append("Mixed precision: rounding of stored outputs compounds.")
    pro += _clipping(case)[0]
    return pro, ["The buffer's content is not sent, so this rests on the configuration."]


def _signs_rate(case: Case) -> tuple[list[str], list[str]]:
    pro, contra = [], []
    if case.rate_rise:
        pro.append(f"The learning rate rose just before: {case.rate_rise}.")
    if case.rate_large:
        pro.append(f"A learning rate of {number(case.rate_large)} is rarely stable.")
    if case.onset <= EARLY_STEPS:
        pro.append(f"It began at step {case.onset}, before anything could be learnt.")
    if case.blind_quasi_newton:
        pro.append("The optimizer is L-BFGS, and no line search is configured.")
    return pro, contra + _clipping(case)[1]


def _signs_none(case: Case) -> tuple[list[str], list[str]]:
    early = not any(case.has(rule) for rule in ("grad_explosion", "clip_saturation", "q_growth"))
    return [], ["No growth was seen before it."] if early else []


# --- scores --------------------------------------------------------------------------------------


def _trouble_with_values(case: Case) -> bool:
    rules = ("q_growth", "clip_saturation", "grad_explosion", "nonfinite", "loss_growth")
    return case.values and any(map(case.has, rules))


def _score_skipped(case: Case) -> float:
    if case.has("skip_streak", CRITICAL):
        return 0.9
    streak = case.evidence("update_applied", "Skipped in a row")
    if streak is not None and parse(streak.value) >= ALL_SKIPPED:
        return 0.86
    return 0.55 if case.has("skip_streak") else 0.0


def _score_hidden(case: Case) -> float:
    if not case.has("clip_saturation"):
        return 0.0
    clipped, jump = case.first("clip_saturation", CRITICAL), case.first("grad_explosion")
    if clipped is not None and jump is not None and clipped.step < jump.onset_step:
        return 0.85  # it was hidden long before it leapt
    grown = case.has("grad_explosion") or case.has("clip_saturation", CRITICAL)
    return 0.8 if grown or case.untruncated else 0.65


def _score_gradient(case: Case) -> float:
    if _leapt(case) and not _out_of_the_blue(case):
        return 0.84
    if case.has("grad_explosion"):
        return 0.75
    if case.has("grad_level"):
        return 0.7
    if _climbed(case):
        return 0.62
    # Through time a gradient can overflow within one backward pass, with nothing to see before.
    through_time = case.recurrent or case.untruncated
    sudden = case.has("nonfinite") and not math.isfinite(case.clip) and not case.half_precision
    sudden = sudden and not _bad_forward_pass(case)
    # leaps of the norm say the same, before there is a jump
    leaps = case.has("surge") and not math.isfinite(case.clip)
    if leaps and case.recurrent and case.has("nonfinite") and not case.values:
        return 0.81  # also while the rate climbs
    return 0.62 if through_time and (sudden or leaps) and not case.values else 0.0


def _bad_forward_pass(case: Case) -> bool:
    """A NaN loss before any gradient of a net whose state is bounded, with nothing risen before:
    what the batch holds made it (labels that are all ignored, a bad row). Bounded states cannot
    overflow on the way forward, those of rollouts and scans can; an overflow would be infinite
    first; and one step of a huge gradient is seen before the loss it spoils."""
    first = case.first_nonfinite
    bounded = case.gated and not case.scans
    if first is None or first.kind != "loss" or not bounded or first.onset_step <= FIRST_STEPS:
        return False
    infinite = any("inf" in item.value.lower() for item in first.evidence[:1])
    rose = any(f.rule in RISES and f.onset_step <= first.onset_step for f in case.findings)
    return not (infinite or rose)


def _climbed(case: Case) -> bool:
    """The loss climbed for some steps and the gradient overflowed, with nothing to bound it."""
    overflow = case.first_nonfinite
    climb = case.of("loss_explosion")
    return (
        overflow is not None
        and climb is not None
        and overflow.step - climb.onset_step > SUDDEN
        and not math.isfinite(case.clip)
        and not case.half_precision
        and not case.values
    )


def _leapt(case: Case) -> bool:
    """A jump by decades from one record to the next: many factors were multiplied within one
    backward pass. Steps that are too long need several to get there."""
    return case.evidence("grad_norm", labels.LEAP) is not None and not case.values


def _score_reward(case: Case) -> float:
    if case.has("reward_scale") or case.has("tiny_rewards"):
        return 0.86
    if not (_trouble_with_values(case) and case.large_rewards):
        return 0.0
    rules = ("q_growth", *RISES)
    grown = any(f.rule in rules for f in case.findings)
    return 0.85 if grown else 0.55  # large rewards make large numbers before they make a NaN


def _score_bootstrap(case: Case) -> float:
    if case.large_rewards:
        return 0.0
    if case.has("q_growth"):
        return 0.8
    if case.off_policy and case.has("grad_explosion"):
        return 0.79  # too fast for Q to reach its bound before
    rules = ("grad_explosion", "grad_level", "clip_saturation", "weight_leap", *OF_LOSS)
    grown = any(case.has(rule) for rule in rules)
    bootstraps = case.critics or (case.values and case.has("joint_rise"))
    return 0.76 if bootstraps and grown else 0.0


def _score_replay(case: Case) -> float:
    if case.has("replay_health"):
        return 0.82
    if case.empty_memory:
        return 0.85  # inputs that are 0 in every batch that is drawn
    if case.blown_rewards and case.off_policy:
        return 0.85  # the buffer keeps what a broken simulator gave
    fired = any(case.has(r) for r in ("nonfinite", "grad_explosion", *OF_LOSS))
    return 0.78 if case.replay and fired else 0.0


def _score_rate(case: Case) -> float:
    """Trouble right after the learning rate rose, or from the first steps on."""
    grown = any(case.has(rule) for rule in ("grad_explosion", *OF_LOSS))
    large = case.of("update_ratio")
    thrown = large is not None and "too large" in large.title
    if case.blind_quasi_newton and (grown or thrown or case.thrown or case.has("nonfinite")):
        return 0.85
    through_time = case.recurrent or case.untruncated or case.values
    if through_time and not case.rate_rise:
        return 0.5 if case.thrown else 0.0
    if case.unbounded:
        return 0.0
    if _killed_by_rate(case):
        return 0.83
    if (grown or thrown) and case.rate_rise:
        return 0.8
    first = min(case.findings, key=lambda f: f.step)
    early = case.onset <= EARLY_STEPS and first.step <= SOON_STEPS
    if thrown or (grown and early):
        return 0.77
    leapt = case.has("weight_leap") and early
    return 0.62 if leapt else 0.6 if case.thrown else 0.0


def _killed_by_rate(case: Case) -> bool:
    """Units died or gradients faded after steps of a size that kills them."""
    faded = case.has("vanishing_gradient")
    dead = case.has("dead_units")
    return bool((case.rate_rise and (faded or dead)) or (case.rate_large and faded and not dead))


def _score_nonfinite(kinds: tuple[str, ...]) -> Callable[[Case], float]:
    def score(case: Case) -> float:
        found = case.of("nonfinite")
        first = case.first_nonfinite
        if found is None or first is None:
            return 0.0
        told = [f.onset_step for rule in OF_LOSS if (f := case.of(rule)) is not None]
        if first.step - min(told, default=first.step) > SUDDEN:
            return 0.4  # the loss had told before: the NaN is its end, not its beginning
        climb = case.first("loss_explosion")
        if climb is not None and climb.step < first.onset_step:
            return 0.5  # and so it is of a climb, however short
        return 0.6 if first.kind in kinds else 0.5

    return score


def _out_of_the_blue(case: Case) -> bool:
    """Loss and gradient of a trained model jump within a record or two: a batch did it."""
    first = min(case.findings, key=lambda f: f.step)
    jumps = [f for f in case.findings if f.rule == "grad_explosion" and f.doubling_steps is None]
    both = jumps and any(case.has(rule) for rule in OF_LOSS)
    return bool(
        both
        and abs(jumps[0].step - first.step) <= SUDDEN
        and first.step - first.onset_step <= SUDDEN
        and case.onset > SOON_STEPS
        and not (case.rate_rise or case.recurrent or case.untruncated or case.values)
    )


def _score_loss(spike: bool) -> Callable[[Case], float]:
    def score(case: Case) -> float:
        found = [f for rule in OF_LOSS if (f := case.of(rule)) is not None]
        if found and spike and case.swapped_betas:
            return 0.86  # steps grow after every rare gradient
        if case.has("grad_spike") and spike:
            return 0.5
        if spike and _out_of_the_blue(case):
            return 0.77
        if not found:
            return 0.0
        sudden = (
            case.has("loss_spike")
            or case.has("task_shock")
            or any(f.step - f.onset_step <= 60 for f in found if f.rule != "joint_rise")
        )
        return 0.55 if sudden == spike else 0.45

    return score


_LOSS = (
    "The loss rose and did not come back, so the weights have moved to a worse place; "
    "the longer it runs on, the further back a good checkpoint lies."
)
_NONFINITE = (
    "One value that is not finite turns every weight it touches into NaN within one update. "
    "Nothing grew beforehand as far as was measured, so an operation or a batch is likelier "
    "than slow divergence."
)
DIVERGENCES: tuple[Syndrome, ...] = (
    Syndrome(
        "gradients-not-cleared",
        lambda case: 0.93 if case.has("kept_gradients") else 0.0,
        ("kept_gradients",),
        "PyTorch adds the gradients of each backward pass to what is there. If nothing clears "
        "them, the optimizer runs on in the direction of an old sum, past every minimum, and one "
        "NaN stays for ever.",
        lambda case: ([], []),
        tries.kept,
    ),
    Syndrome(
        "all-updates-skipped",
        _score_skipped,
        ("skip_streak",),
        "Every batch is refused because its gradients are not finite, so the weights that produce "
        "them never change. The loss may go on printing; nothing is learnt.",
        _signs_skipped,
        tries.skipped,
    ),
    Syndrome(
        "reward-scale",
        _score_reward,
        ("reward_scale", "tiny_rewards", "q_growth", "clip_saturation", "grad_explosion"),
        "Q-values, their squared errors and policy gradients scale with the reward: large ones "
        "make gradients that no clip can make useful and targets that no step reaches, tiny ones "
        "drown in the noise and the entropy bonus.",
        _signs_values,
        tries.reward,
    ),
    Syndrome(
        "bootstrap-divergence",
        _score_bootstrap,
        ("q_growth", "grad_explosion", "clip_saturation"),
        "Q-values exceed what the rewards can ever pay, so the critic is learning from its own "
        "errors: each target is built on an overestimate and the next one is larger.",
        _signs_bootstrap,
        tries.bootstrap,
    ),
    Syndrome(
        "explosion-hidden-by-clipping",
        _score_hidden,
        ("clip_saturation", "grad_explosion"),
        "Clipping keeps each update small, so loss and post-clip norm look calm while the real "
        "gradient grows. At this ratio its direction is noise; the next stop is overflow.",
        _signs_hidden,
        tries.hidden,
    ),
    Syndrome(
        "replay-corruption",
        _score_replay,
        ("grad_explosion", "loss_divergence", "nonfinite", "unreached"),
        "What is stored in the buffer comes back as inputs and targets. Once some of it is huge, "
        "empty or not finite, every later batch that draws it is hurt, also after the weights "
        "have recovered.",
        _signs_replay,
        tries.replay,
    ),
    Syndrome(
        "exploding-gradient",
        _score_gradient,
        ("grad_explosion", "grad_level"),
        "Each step makes the next gradient larger, and an update of this size throws the weights "
        "far away. The loss usually follows the norm by a few steps, then overflow.",
        _signs_gradient,
        tries.gradient,
    ),
    Syndrome(
        "nonfinite-loss",
        _score_nonfinite(("loss", "reward", "q_mean", "q_min", "q_max", "logit_max")),
        ("nonfinite",),
        _NONFINITE,
        _signs_none,
        tries.nonfinite,
    ),
    Syndrome(
        "nonfinite-gradient",
        _score_nonfinite(("grad_norm", "param_norm")),
        ("nonfinite",),
        _NONFINITE,
        _signs_none,
        tries.nonfinite,
    ),
    Syndrome("loss-spike", _score_loss(True), OF_LOSS, _LOSS, _signs_none, tries.loss),
    Syndrome("divergence", _score_loss(False), OF_LOSS, _LOSS, _signs_none, tries.loss),
    Syndrome(
        "learning-rate-too-high",
        _score_rate,
        (
            "grad_explosion",
            *OF_LOSS,
            "update_ratio",
            "weight_leap",
            "vanishing_gradient",
            "dead_units",
            "nonfinite",
        ),
        "The steps are longer than the valley of the loss is wide: each lands higher on the other "
        "side than it began, so loss and gradients grow with every step.",
        _signs_rate,
        tries.rate,
    ),
)
