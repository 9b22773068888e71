"""Names the cause of a group of findings and what to try. Injected into the incident book."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from nanwatch_server.diagnose import remedies as do
from nanwatch_server.diagnose.case import Case
from nanwatch_server.diagnose.forecast import forecast
from nanwatch_server.diagnose.ranks import first_bad_rank
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Diagnosis, Finding, Severity, Suggestion

CRITICAL = Severity.CRITICAL
Remedy = Callable[[Case], Suggestion]


class Syndrome(NamedTuple):
    """One named cause."""

    name: str
    score: Callable[[Case], float]
    """0: not this; else confidence before evidence for and against is weighed."""
    leads: tuple[str, ...]
    """Rules whose finding gives the title, the first that fired."""
    why: str
    signs: Callable[[Case], tuple[list[str], list[str]]]
    """Evidence for and against beyond the findings themselves."""
    tries: Callable[[Case], list[Suggestion]]


def diagnose(findings: Sequence[Finding], facts: Mapping[str, str]) -> Diagnosis:
    """The likeliest syndrome behind `findings` (oldest first, at least one)."""
    case = Case(findings, facts)
    scores = [syndrome.score(case) for syndrome in SYNDROMES]
    best = max(range(len(SYNDROMES)), key=lambda index: scores[index])
    syndrome = SYNDROMES[best] if scores[best] > 0 else OTHER
    lead = _lead(case, syndrome)
    pro, contra = syndrome.signs(case)
    rank = first_bad_rank(findings, facts)
    weight = max(scores[best], 0.3) + 0.03 * len(pro) - 0.06 * len(contra)
    return Diagnosis(
        syndrome=syndrome.name,
        title=lead.title,
        what=f"{rank} {_what(case, lead)}".strip(),
        why=syndrome.why,
        confidence=round(min(0.97, max(0.1, weight)), 2),
        evidence_for=(*([rank] if rank else []), *_said(case), *pro),
        evidence_against=tuple(contra),
        suggestions=tuple(syndrome.tries(case)),
        forecast=forecast(case),
    )


def _lead(case: Case, syndrome: Syndrome) -> Finding:
    for rule in syndrome.leads:
        if (found := case.of(rule)) is not None:
            return found
    live = [f for f in case.findings if not f.cleared] or list(case.findings)
    return max(live, key=lambda found: (found.severity, found.step))


def _newest(case: Case) -> list[Finding]:
    """Per rule and scope the newest finding that speaks of trouble."""
    newest: dict[tuple[str, str, str], Finding] = {}
    for found in case.findings:
        if not found.cleared and found.severity >= Severity.WARNING:
            newest[found.rule, found.scope, found.kind] = found
    return list(newest.values())


def _what(case: Case, lead: Finding) -> str:
    others = [f for f in _newest(case) if f.rule != lead.rule]
    first = lead.message
    if not others:
        return first
    named = "; ".join(f"{f.title} (since step {f.onset_step})" for f in others[:3])
    return f"{first} Also: {named}."


def _said(case: Case) -> list[str]:
    return [
        f"{f.title}{f' ({f.scope})' if f.scope else ''}, since step {f.onset_step}"
        for f in _newest(case)
    ]


# --- signs: evidence for and against beyond the findings -----------------------------------------


def _signs_gradient(case: Case) -> tuple[list[str], list[str]]:
    pro, contra = [], []
    if math.isfinite(case.clip):
        contra.append(f"A clip of {number(case.clip)} bounds the size of each update.")
    else:
        pro.append("Gradients are not clipped.")
    if case.untruncated:
        pro.append(f"Gradients flow through {case.length} time steps without truncation.")
    elif case.recurrent:
        pro.append("The model is recurrent: each time step multiplies the gradient.")
    return pro, contra


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
    pro = ["Stored outputs are replayed into the loss, so a bad row comes back again and again."]
    if case.half_precision:
        pro.append("Mixed precision: rounding of stored outputs compounds.")
    if not math.isfinite(case.clip):
        pro.append("Gradients are not clipped.")
    return pro, ["The buffer's content is not sent, so this rests on the configuration."]


def _signs_none(case: Case) -> tuple[list[str], list[str]]:
    early = not any(case.has(rule) for rule in ("grad_explosion", "clip_saturation", "q_growth"))
    return [], ["No growth was seen before it."] if early else []


# --- what to try, best first ---------------------------------------------------------------------


def _try_gradient(case: Case) -> list[Suggestion]:
    tries = [do.truncate(case)] if case.untruncated else []
    tries.append(do.clip(case))
    tries += [do.orthogonal(case)] if case.recurrent else [do.warm_up(case)]
    return [*tries, do.scale_lr(case), do.checkpoint(case)]


def _try_hidden(case: Case) -> list[Suggestion]:
    through_time = case.untruncated or case.recurrent or not case.values
    tries = [do.truncate(case)] if through_time else [do.steadier_critic(case)]
    return [*tries, do.scale_lr(case), do.checkpoint(case)]


def _try_reward(case: Case) -> list[Suggestion]:
    tries = [do.reward_scale(case), do.slow_target(case), do.clip(case)]
    return [*tries, do.scale_lr(case), do.checkpoint(case)]


def _try_bootstrap(case: Case) -> list[Suggestion]:
    return [do.steadier_critic(case), do.slow_target(case), do.clip(case), do.scale_lr(case),
            do.checkpoint(case)]  # fmt: skip


def _try_skipped(case: Case) -> list[Suggestion]:
    tries = [do.truncate(case)] if case.untruncated or case.recurrent else []
    if case.half_precision:
        tries.append(do.full_precision(case))
    if case.values and case.large_rewards:
        tries.append(do.reward_scale(case))
    if not tries:
        tries.append(do.find_operation(case))
    return [*tries, do.stop(case), do.scale_lr(case), do.checkpoint(case)]


def _try_replay(case: Case) -> list[Suggestion]:
    tries = [do.finite_rows(case), do.clip(case)]
    if case.half_precision:
        tries.append(do.full_precision(case))
    return [*tries, do.replay_weight(case), do.scale_lr(case), do.checkpoint(case)]


def _try_nonfinite(case: Case) -> list[Suggestion]:
    tries = [do.find_operation(case)]
    if case.half_precision:
        tries.append(do.full_precision(case))
    if not math.isfinite(case.clip):
        tries.append(do.clip(case))
    return [*tries, do.stop(case), do.scale_lr(case), do.checkpoint(case), do.mask_warning(case)]


def _try_loss(case: Case) -> list[Suggestion]:
    return [do.skip_batches(case), do.warm_up(case), do.scale_lr(case, 0.5), do.scale_lr(case),
            do.checkpoint(case)]  # fmt: skip


# --- scores --------------------------------------------------------------------------------------


def _trouble_with_values(case: Case) -> bool:
    return case.values and any(
        case.has(rule) for rule in ("q_growth", "clip_saturation", "grad_explosion", "nonfinite")
    )


def _score_skipped(case: Case) -> float:
    if case.has("skip_streak", CRITICAL):
        return 0.9
    return 0.55 if case.has("skip_streak") else 0.0


def _score_hidden(case: Case) -> float:
    if not case.has("clip_saturation"):
        return 0.0
    grown = case.has("grad_explosion") or case.has("clip_saturation", CRITICAL)
    return 0.8 if grown or case.untruncated else 0.65


def _score_gradient(case: Case) -> float:
    return 0.75 if case.has("grad_explosion") else 0.0


def _score_replay(case: Case) -> float:
    fired = any(case.has(r) for r in ("nonfinite", "grad_explosion", "loss_divergence"))
    return 0.78 if case.replay and fired else 0.0


def _score_nonfinite(kinds: tuple[str, ...]) -> Callable[[Case], float]:
    def score(case: Case) -> float:
        found = case.of("nonfinite")
        first = next((f for f in case.findings if f.rule == "nonfinite"), found)
        if found is None or first is None:
            return 0.0
        return 0.6 if first.kind in kinds else 0.5

    return score


def _score_loss(spike: bool) -> Callable[[Case], float]:
    def score(case: Case) -> float:
        found = case.of("loss_divergence")
        if found is None:
            return 0.0
        sudden = found.step - found.onset_step <= 60
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
SYNDROMES: tuple[Syndrome, ...] = (
    Syndrome(
        "all-updates-skipped",
        _score_skipped,
        ("skip_streak",),
        "Every batch is refused because its gradients are not finite, so the weights that produce "
        "them never change. The loss may go on printing; nothing is learnt.",
        _signs_skipped,
        _try_skipped,
    ),
    Syndrome(
        "reward-scale",
        lambda case: 0.85 if _trouble_with_values(case) and case.large_rewards else 0.0,
        ("q_growth", "clip_saturation", "grad_explosion"),
        "Q-values and their squared errors scale with the reward, so large rewards make gradients "
        "that no clip can make useful. Each bootstrapped target then raises the next.",
        _signs_values,
        _try_reward,
    ),
    Syndrome(
        "bootstrap-divergence",
        lambda case: 0.8 if case.has("q_growth") and not case.large_rewards else 0.0,
        ("q_growth",),
        "Q-values exceed what the rewards can ever pay, so the critic is learning from its own "
        "errors: each target is built on an overestimate and the next one is larger.",
        _signs_bootstrap,
        _try_bootstrap,
    ),
    Syndrome(
        "explosion-hidden-by-clipping",
        _score_hidden,
        ("clip_saturation", "grad_explosion"),
        "Clipping keeps each update small, so loss and post-clip norm look calm while the real "
        "gradient grows. At this ratio its direction is noise; the next stop is overflow.",
        _signs_hidden,
        _try_hidden,
    ),
    Syndrome(
        "replay-corruption",
        _score_replay,
        ("grad_explosion", "loss_divergence", "nonfinite"),
        "Outputs stored in the buffer come back as targets. Once some are huge or not finite, "
        "every later batch that draws them is hurt, also after the weights have recovered.",
        _signs_replay,
        _try_replay,
    ),
    Syndrome(
        "exploding-gradient",
        _score_gradient,
        ("grad_explosion",),
        "Each step makes the next gradient larger, and an update of this size throws the weights "
        "far away. The loss usually follows the norm by a few steps, then overflow.",
        _signs_gradient,
        _try_gradient,
    ),
    Syndrome(
        "nonfinite-loss",
        _score_nonfinite(("loss", "reward", "q_mean", "q_min", "q_max", "logit_max")),
        ("nonfinite",),
        _NONFINITE,
        _signs_none,
        _try_nonfinite,
    ),
    Syndrome(
        "nonfinite-gradient",
        _score_nonfinite(("grad_norm", "param_norm")),
        ("nonfinite",),
        _NONFINITE,
        _signs_none,
        _try_nonfinite,
    ),
    Syndrome("loss-spike", _score_loss(True), ("loss_divergence",), _LOSS, _signs_none, _try_loss),
    Syndrome("divergence", _score_loss(False), ("loss_divergence",), _LOSS, _signs_none, _try_loss),
)
OTHER = Syndrome(
    "unnamed",
    lambda case: 0.3,
    (),
    "What was measured does not match a known cause.",
    lambda case: ([], []),
    lambda case: [do.scale_lr(case), do.checkpoint(case)],
)
