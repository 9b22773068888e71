"""Rules on size, not speed: weights that leap, gradients far from where they began, rewards nothing
can be learnt from; and reports of layers that come in turn."""

from __future__ import annotations

import numpy as np
import pytest
from families import RUN, Array, Trace, alarms, decay, noise

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain import labels
from nanwatch_server.domain.models import Finding

N = 800
T = np.arange(N)
EVERY = 32


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def judged(*tables: tuple[str, Trace], size: int = 100, **facts: str) -> list[Finding]:
    """Warnings of tables that come side by side, each of a scope."""
    detector = RunDetector(RUN, facts)
    found: list[Finding] = []
    for start in range(0, N, size):
        stop = min(N, start + size)
        blocks = [measured(table.block(start, stop, scope)) for scope, table in tables]
        found += detector.feed([block for block in blocks if len(block)])
    return alarms(found)


def measured(block: Block) -> Block:
    """The attempts of which anything is known: others are in no table."""
    rows = [*block.scalars.values(), *(values for _, values in block.layers.values())]
    known = np.isfinite(np.vstack(rows)).any(axis=0)
    return Block(
        block.scope,
        block.stage,
        block.steps[known],
        block.times[known],
        {kind: values[known] for kind, values in block.scalars.items()},
        {kind: (names, values[:, known]) for kind, (names, values) in block.layers.items()},
    )


def fired(rule: str, *tables: tuple[str, Trace], size: int = 100, **facts: str) -> list[Finding]:
    return [found for found in judged(*tables, size=size, **facts) if found.rule == rule]


def weights(*layers: Array) -> Trace:
    """Norms per layer, measured now and then."""
    values = np.full((len(layers), N), np.nan)
    values[:, ::EVERY] = np.stack(layers)[:, ::EVERY]
    values[:, :4] = np.stack(layers)[:, :4]
    names = tuple(f"layers.{n}" for n in range(len(layers)))
    return Trace({}, layers={"param_norm_layer": (names, values)})


SLOW = 8 + T / 400
"""A norm that grows as in good health."""


@pytest.mark.parametrize("size", [1, 100, N])
def test_weights_that_leap_are_told_and_named(size: int) -> None:
    leapt = np.where(T >= 500, 4.0, 1.0) * SLOW
    (found,) = judged(("", weights(SLOW, leapt)), size=size)
    assert found.rule == "weight_leap" and found.layer == "layers.1"
    assert found.step == 512 and found.onset_step == 480


def test_weights_that_grow_slowly_or_move_at_first_do_not_leap() -> None:
    early = 8 * np.minimum(1 + T / 30, 3.0)
    assert not judged(("", weights(SLOW, early)))
    often = 8 * 1.3 ** (T // EVERY % 4)  # to and fro by the same
    assert not judged(("", weights(SLOW, often)))


def test_weights_that_begin_near_zero_may_grow() -> None:
    early = 0.001 + 30 * (1 - np.exp(-T / 60))
    trace = weights(early)
    measured = trace.layers["param_norm_layer"][1]
    measured[:, [9, 17]] = early[[9, 17]]
    assert not judged(("", trace))
    measured[:, :17] = np.nan  # seldom: 0.5 at step 0 is 23 times as much 32 steps later
    measured[:, [0, 1]] = [[0.05, 0.5]]
    assert not judged(("", trace))


def test_weights_that_explode_within_the_first_steps_are_told() -> None:
    thrice = 3.0 ** np.minimum(T / 10, 9.4)
    trace = weights(thrice)
    trace.layers["param_norm_layer"][1][:, ::10] = thrice[::10]
    (found, *_) = fired("weight_leap", ("", trace))
    assert "as large as they began" in found.title and found.step <= 50


def test_a_layer_that_is_unfrozen_is_no_leap() -> None:
    thawed = np.where(T >= 500, 40.0, np.nan)
    assert not judged(("", weights(SLOW, thawed)))


def test_a_step_of_six_times_the_weights_needs_no_past_and_a_first_step_is_none() -> None:
    thrown = np.where(T >= 3, 60.0, 8.0)
    assert fired("weight_leap", ("", weights(thrown)))[0].step == 3
    from_nothing = np.where(T >= 1, 8.0, 0.5)
    assert not judged(("", weights(from_nothing)))


def test_weights_many_times_as_large_as_they_began_are_told_at_any_pace() -> None:
    grown = 8 * np.exp(T / 150)
    found = fired("weight_leap", ("", weights(grown)))
    assert found and "as large as they began" in found[0].title
    scalar = 0.01 * np.exp(T / 150)  # a temperature
    assert not fired("weight_leap", ("", weights(scalar)))


def test_gradients_far_above_those_of_the_untrained_model() -> None:
    jitter = noise(rng(), N, 0.3)
    uneven = 0.1 * jitter * np.interp(T, [0, 60, 90, 300, 330, N], [1, 1, 30, 30, 2000, 2000])
    sides = Trace({"grad_norm": uneven, "loss": -T / 10.0}), Trace({"loss": -T / 10.0})
    (found, *_) = fired("grad_level", ("generator", sides[0]), ("critic", sides[1]))
    assert 320 <= found.step <= 380
    below = Trace({"grad_norm": 0.03 * uneven, "loss": decay(T)})
    assert not fired("grad_level", ("", below)), "norms near a usual clip harm nobody"
    variance = np.interp(T, [0, 90, 400], [1, 1, 100]) * jitter
    assert not fired("grad_level", ("", Trace({"grad_norm": variance, "loss": decay(T)})))


def critic(values: Array, loss: Array) -> tuple[tuple[str, Trace], ...]:
    """Q-values now and then, in a table of their own, beside the critic's loss."""
    seldom = np.where(T % 5 == 0, values, np.nan)
    table = Trace({"q_mean": seldom, "q_std": 0.3 * np.abs(seldom)})
    return ("critic", Trace({"loss": loss})), ("critic", table)


def test_a_critic_whose_errors_dwarf_its_values() -> None:
    crawls, loss = 0.05 + T / 100.0, 1e8 * noise(rng(1), N, 0.5)
    (found, *_) = fired("reward_scale", *critic(crawls, loss), gamma="0.95")
    assert found.step <= 220 and found.scope == "critic"
    near = critic(300 * (1 - np.exp(-T / 200)), 1e5 * np.exp(-T / 200) * noise(rng(1), N, 0.5))
    assert not judged(*near, gamma="0.95"), "large rewards that the critic comes near to"
    modest = critic(0.05 + T / 1000.0, 4.0 * noise(rng(1), N, 0.5))
    assert not fired("reward_scale", *modest, gamma="0.95")


def test_rewards_too_small_to_move_a_policy() -> None:
    uniform = 1.79 * noise(rng(2), N, 0.002)

    def told(rewards: Array, entropy: Array) -> bool:
        trace = Trace({"reward": rewards, "entropy": entropy})
        return bool(fired("tiny_rewards", ("", trace)))

    paid = noise(rng(3), N, 0.3)
    assert told(4e-6 * paid, uniform)
    assert not told(0.5 * paid, uniform)
    assert not told(4e-6 * paid, uniform * np.exp(-T / 400)), "the policy does move"
    assert not told(0.0 * paid, uniform), "nothing was earned yet: sparse rewards"


@pytest.mark.parametrize(("first", "told"), [(400.0, False), (20.0, True)])
def test_a_norm_above_the_clip_from_the_first_record_on_is_the_scale_of_the_loss(
    first: float, told: bool
) -> None:
    ratio = first + (400 - first) * np.minimum(1, T / 150)
    loss = (40 + 400 * np.exp(-T / 40)) * noise(rng(4), N, 0.1)
    trace = Trace({"grad_norm": ratio * noise(rng(5), N, 0.1), "clip_threshold": np.ones(N),
                   "loss": loss})  # fmt: skip
    assert bool(fired("clip_saturation", ("", trace))) is told


def in_turn(share: float, loss: Array) -> list[Finding]:
    """Two layers, of which each report measures one."""
    detector = RunDetector(RUN, {})
    found: list[Finding] = []
    for start in range(0, N, 40):
        cut = slice(start, start + 40)
        found += detector.update(Block("", "train", T[cut], T[cut] * 0.1, {"loss": loss[cut]}))
        name = ("first",) if start % 80 else ("second",)
        report = {"saturated_fraction_layer": (name, np.array([[share]]))}
        step = T[cut][-1:]
        found += detector.update(Block("", "train", step, step * 0.1, {}, report))
    return [one for one in alarms(found) if one.rule == "saturated_units"]


def test_layers_that_are_measured_in_turn_are_judged_by_their_own_reports() -> None:
    flat = 2.3 * noise(rng(6), N, 0.01)
    assert in_turn(1.0, flat)
    assert not in_turn(0.4, flat)


def test_a_layer_without_a_living_unit_is_told_though_something_was_learnt_before() -> None:
    loss = (1.6 + 0.7 * np.exp(-T / 20)) * noise(rng(7), N, 0.01)
    assert in_turn(1.0, loss)
    assert not in_turn(1.0, decay(T) * noise(rng(7), N, 0.01)), "it learns on"


def game(own: Array, other: Array) -> list[Finding]:
    sides = ("discriminator", Trace({"loss": own})), ("generator", Trace({"loss": other}))
    return fired("adversary", *sides, scopes="discriminator,generator")


def test_a_discriminator_that_wins_within_the_first_records() -> None:
    own = np.maximum(0.04, 1.386 * np.exp(-T / 12)) * noise(rng(8), N, 0.3)
    other = np.where(T < 8, 0.69, 5.0) * noise(rng(9), N, 0.1)
    assert game(own, other)[0].step <= 208
    loses_again = np.where(T < 100, own, np.minimum(1.4, 0.04 * np.exp(T / 40)))
    assert not game(loses_again * noise(rng(8), N, 0.1), np.minimum(other, 2.0))
    even = np.maximum(0.25, 1.386 * np.exp(-T / 12)) * noise(rng(8), N, 0.3)
    assert not game(even, np.minimum(other, 2.0))


def test_one_side_that_beats_the_other_for_long() -> None:
    own = (0.165 + 0.5 * np.exp(-T / 20)) * noise(rng(8), N, 0.05)
    other = (0.75 + 6 * (1 - np.exp(-T / 100))) * noise(rng(9), N, 0.05)
    (found, *_) = game(own, other)
    assert "beats generator" in found.title and found.step <= 330
    sides = ("reader", Trace({"loss": own})), ("writer", Trace({"loss": other}))
    assert fired("adversary", *sides, scopes="reader,writer"), "whatever they are called"
    comes_back = np.where(T < 280, other, 2.0)
    assert not game(own, comes_back)
    rewarded = *sides, ("", Trace({"reward": noise(rng(1), N, 0.1)}))
    assert not fired("adversary", *rewarded), "an actor's loss rises with the values"
    total = *sides, ("", Trace({"loss": own + other}))
    assert fired("adversary", *total), "a loss that the script logs is no side"
    from_nothing = np.where(T < 8, 0.0, other)
    assert not fired("adversary", sides[0], ("writer", Trace({"loss": from_nothing})))
    before, after = np.where(T < 300, other, np.nan), np.where(T >= 300, own, np.nan)
    in_turn = ("a", Trace({"loss": before})), ("b", Trace({"loss": after}))
    assert not fired("adversary", *in_turn), "the other fit had ended"


@pytest.mark.parametrize("size", [1, 100, N])
def test_two_scopes_with_a_loss_have_no_cost_of_guessing(size: int) -> None:
    sure = Trace({"loss": 6 * noise(rng(1), N, 0.02)})
    assert not judged(("a", sure), ("b", sure), size=size, classes="18")


@pytest.mark.parametrize("size", [1, N])
def test_a_loss_that_was_never_near_the_cost_of_guessing(size: int) -> None:
    sure = (6 + 3 * np.exp(-T / 150)) * noise(rng(1), N, 0.05)
    (found,) = judged(("", Trace({"loss": sure})), size=size, classes="18")
    assert found.rule == "above_chance" and found.step == 191 and "2.4x" in found.title
    assert not judged(("", Trace({"loss": sure}))), "nobody said how many classes there are"
    long = judged(("", Trace({"loss": sure})), classes="18", max_steps="1000")
    assert 415 < long[0].step < N, "it fell fast enough to arrive, until it did so no more"
    flat = judged(("", Trace({"loss": 6 * noise(rng(1), N, 0.02)})), classes="18", max_steps="1000")
    assert flat[0].step == 415
    began = (2 + 7 * np.exp(-T / 30)) * noise(rng(1), N, 0.05)
    assert not fired("above_chance", ("", Trace({"loss": began})), classes="18")


def test_a_later_task_may_begin_above_the_cost_of_guessing() -> None:
    detector = RunDetector(RUN, {"classes": "5"})
    loss = np.where(T < 200, np.exp(-T / 50), 4.0)
    trace = Trace({"loss": loss * noise(rng(2), N, 0.02)})
    found = detector.feed([trace.block(0, 200)])
    detector.mark("task", 200, {})
    found += detector.feed([trace.block(200, N)])
    assert "above_chance" not in {one.rule for one in found}


@pytest.mark.parametrize(
    ("scopes", "told"), [("model,model2", True), ("model", True), ("model,judge", False)]
)
def test_optimizers_of_one_loss_do_not_compete(scopes: str, told: bool) -> None:
    flat = 2.3 * noise(rng(1), N, 0.01)
    parts = ("model", Trace({"loss": flat})), ("model2", Trace({"grad_norm": flat}))
    assert bool(fired("plateau", *parts, scopes=scopes, steps=str(N))) is told


def test_a_fit_after_another_is_judged_though_both_have_scopes() -> None:
    sure = 6 * noise(rng(1), N, 0.02)
    before, after = np.where(T < 300, sure, np.nan), np.where(T >= 300, sure, np.nan)
    one = ("model", Trace({"loss": sure}))
    (found,) = fired("above_chance", one, scopes="pretraining,model", classes="18")
    assert any(item.label == labels.LOSS_STANDS for item in found.evidence)
    both = ("judge", Trace({"loss": before})), ("model", Trace({"loss": after}))
    assert [f.scope for f in fired("above_chance", *both, classes="18")] == ["judge"]


def test_a_policy_without_gradient_that_earns_no_more_is_not_solved() -> None:
    norm = np.where(T < 300, 0.5, 0.0)
    loss = np.where(T < 300, -0.5, 0.0)

    def told(late: float) -> bool:
        rewards = np.where(T < 300, np.minimum(1, T / 150), late)
        trace = Trace({"grad_norm": norm, "loss": loss, "reward": rewards})
        return bool(fired("idle_weights", ("", trace)))

    assert told(0.0) and not told(1.0)


def test_a_loss_that_is_zero_out_of_the_blue_is_no_solution() -> None:
    norm = np.where(T < 400, 0.5, 0.0)

    def told(before: Array) -> bool:
        loss = np.where(T < 400, before, 0.0)
        return bool(fired("idle_weights", ("", Trace({"grad_norm": norm, "loss": loss}))))

    assert told(np.maximum(0.2, np.exp(-T / 60)))
    assert not told(np.exp(-T / 60)), "it came down to nothing before"


@pytest.mark.parametrize(("level", "told"), [(1.0, True), (0.4, False)])
def test_a_rate_that_is_gone_before_anything_was_learnt(level: float, told: bool) -> None:
    loss = (level + (2.3 - level) * np.exp(-T / 30) if level < 1 else 2.3) * noise(rng(1), N, 0.01)
    decayed = Trace({"loss": loss, "lr": 1e-3 * 0.9**T})
    assert bool(fired("rate_gone", ("", decayed), gamma="0.9", classes="6")) is told


def test_a_schedule_that_ends_with_the_run_is_not_gone() -> None:
    loss = 2.3 * noise(rng(1), N, 0.01)
    ends = 1e-3 * (1.0001 + np.cos(np.pi * T / N))
    decayed = "", Trace({"loss": loss, "lr": ends})
    assert fired("rate_gone", decayed, steps=str(2 * N))
    assert not fired("rate_gone", decayed, steps=str(N))
    soon = "", Trace({"loss": loss, "lr": 1e-3 * 0.95**T})
    assert fired("rate_gone", soon, num_steps="128"), "a length that is none of the run"


def test_a_rate_that_falls_by_less_or_warms_up_is_not_gone() -> None:
    loss = 2.3 * noise(rng(1), N, 0.01)
    for rate in (1e-3 * np.maximum(0.01, 1 - T / 100), 1e-6 + 1e-3 * T / N):
        assert not fired("rate_gone", ("", Trace({"loss": loss, "lr": rate})))


def evaluations(
    losses: Array, trained: Array, mark: str = "", rule: str = "flat_validation"
) -> list[Finding]:
    """A training with an evaluation every 40 attempts, perhaps the rest of one."""
    detector = RunDetector(RUN, {})
    if mark:
        one = Block("", "val", T[:1], T[:1] * 0.1, {"loss": np.array([9.0])})
        detector.update(one)
        detector.mark(mark, 0, {})
    found: list[Finding] = []
    for number, loss in enumerate(losses):
        cut = slice(number * 40, number * 40 + 40)
        found += detector.update(Block("", "train", T[cut], T[cut] * 0.1, {"loss": trained[cut]}))
        step = T[cut][-1:]
        found += detector.update(Block("", "val", step, step * 0.1, {"loss": np.array([loss])}))
    return [one for one in alarms(found) if one.rule == rule]


def test_evaluations_that_never_move_show_what_noise_hides() -> None:
    noisy = 9e4 * noise(rng(2), N, 0.3)
    flat = 2.35e5 * (1 - 1e-5 * np.arange(20))
    (found, *_) = evaluations(flat, noisy)
    assert found.step == 319
    assert not evaluations(flat, noisy, "resume"), "it may have learnt before"
    assert not evaluations(2.35e5 * (1 - 1e-2 * np.arange(20)), noisy)
    first = np.where(np.arange(20) == 0, 1.1, 1.0) * flat
    assert evaluations(first, noisy), "the first may be of the untrained model"
    bias = np.where(T < 60, 1.15, 1.0) * noisy
    (late, *_) = evaluations(flat, bias)
    assert late.step == 639, "only the mean was learnt: that takes more to be told"
    learning = noisy * np.exp(-T / 100)
    assert not evaluations(flat, learning), "it learns, if not what the evaluation asks"


def test_an_evaluation_that_never_changes_is_not_of_what_is_trained() -> None:
    def told(losses: Array, trained: Array, mark: str = "") -> list[Finding]:
        return evaluations(losses, trained, mark, "stale_evaluation")

    learning = noise(rng(2), N, 0.1) * np.exp(-T / 400)
    same = np.full(20, 2.345)
    (found, *_) = told(same, learning)
    assert found.step == 319 and found.onset_step == 39
    assert told(same, learning, mark="resume"), "whatever it was trained from"
    late = np.where(np.arange(20) < 3, 3.0 - 0.1 * np.arange(20), 2.345)
    (found, *_) = told(late, learning)
    assert found.step == 639 and found.onset_step == 159, "three quarters of the training"
    again = 3.0 - 0.1 * ((np.arange(20) + 4) // 9)
    assert not told(again, learning), "the newest, logged again until the next"
    assert not told(np.where(np.arange(20) % 7, 2.345, 2.346), learning), "it varies"
    assert not told(np.zeros(20), learning), "solved, or not computed"
    assert not told(same, noise(rng(2), N, 0.1)), "nothing changes any more"


def test_a_latent_code_that_says_nothing() -> None:
    collapsed = 0.001 + 0.25 * np.exp(-T / 5)
    loss = 1.0 * noise(rng(3), N, 0.02)

    def told(kl: Array, **facts: str) -> bool:
        return bool(fired("posterior_collapse", ("", Trace({"kl": kl, "loss": loss})), **facts))

    assert told(collapsed, latent="8")
    assert not told(collapsed), "a KL that is minimised, as in distillation"
    assert not told(2 + 20 * np.exp(-T / 50), latent_dim="8")
    assert not told(np.minimum(1.0, T / 300), latent="8"), "warmed up"


@pytest.mark.parametrize(("reward", "told"), [(-1.5, True), (1.5, False)])
def test_values_of_a_sign_that_no_reward_has(reward: float, told: bool) -> None:
    values = np.where(T < 200, -0.1, 2.0 * 2.0 ** (np.minimum(T, 600) / 150))
    table = Trace({"q_mean": values, "q_max": values + 1, "q_min": values - 1})
    paid = Trace({"reward": reward * noise(rng(4), N, 0.1)})
    found = fired("q_growth", ("", paid), ("critic", table), gamma="0.95")
    assert bool(found) is told
    assert not told or "not" in found[0].message


def undiscounted(values: Array, spread: float) -> tuple[tuple[str, Trace], ...]:
    """Q-values beside rewards of 0.7."""
    table = Trace({"q_mean": values, "q_std": spread * values, "q_max": values * 1.05})
    return ("", Trace({"reward": 0.7 * noise(rng(4), N, 0.05)})), ("critic", table)


@pytest.mark.parametrize(
    ("gamma", "spread", "told"), [("1.0", 0.02, True), ("1.0", 0.3, False), ("0.99", 0.02, False)]
)
def test_values_that_rise_together_without_a_discount(
    gamma: str, spread: float, told: bool
) -> None:
    values = 0.06 * T
    balances = undiscounted(400 * (1 - np.exp(-T / 600)), 0.04)
    assert not any("gamma is 1" in f.message for f in fired("q_growth", *balances, gamma="1.0"))
    found = fired("q_growth", *undiscounted(values, spread), gamma=gamma)
    assert bool(found) is told
    assert not told or "gamma is 1" in found[0].message


def test_a_distance_to_a_reference_is_none_of_a_step() -> None:
    kl = Trace({"kl": 3 * (1 - np.exp(-T / 100)), "reward": noise(rng(5), N, 0.1)})
    assert fired("policy_shift", ("", kl))
    assert not fired("policy_shift", ("", kl), kl_weight="0.3")
    assert fired("policy_shift", ("", kl), kl_weight="0.0"), "switched off"
    assert fired("policy_shift", ("", kl), kl_coeff="0.2", kl_target="0.01"), "PPO's own"
    far = Trace({"kl": 13 * (1 - np.exp(-T / 100)), "reward": noise(rng(5), N, 0.1)})
    (found, *_) = fired("policy_shift", ("", far), kl_weight="0.3")
    assert "to the reference" in found.title


def test_a_loss_that_comes_down_to_guessing_and_no_further() -> None:
    comes = (1.62 + 600 * np.exp(-T / 20)) * noise(rng(6), N, 0.05)
    (found, *_) = fired("plateau", ("", Trace({"loss": comes})), classes="5")
    assert "no better than guessing (1.609)" in found.title and 500 <= found.step <= 530
    parts = (3.5 + 9 * np.exp(-T / 20)) * noise(rng(6), N, 0.02)  # of several heads, say
    assert not fired("plateau", ("", Trace({"loss": parts})), classes="20")
    better = (1.2 + 600 * np.exp(-T / 20)) * noise(rng(6), N, 0.05)
    assert not fired("plateau", ("", Trace({"loss": better})), classes="5")


@pytest.mark.parametrize(
    ("until", "gamma", "told"), [(20, "", True), (9, "", False), (20, "0.99", False)]
)
def test_what_is_evaluated_tells_of_games_as_well(until: int, gamma: str, told: bool) -> None:
    facts = {"scopes": "maker,judge"} | ({"gamma": gamma} if gamma else {})
    detector = RunDetector(RUN, facts)
    falls = 0.7 * np.exp(-T / 100)
    found: list[Finding] = []
    for number in range(20):
        cut = slice(number * 40, number * 40 + 40)
        for scope in ("maker", "judge"):
            found += detector.update(
                Block(scope, "train", T[cut], T[cut] * 0.1, {"loss": falls[cut]})
            )
        step, loss = T[cut][-1:], np.array([4.0 if 2 <= number < until else 1.0])
        found += detector.update(Block("", "val", step, step * 0.1, {"loss": loss}))
    warned = [one for one in alarms(found) if one.rule == "validation_loss"]
    assert bool(warned) is told
    assert not told or warned[0].step == 40 * 10 - 1


@pytest.mark.parametrize("size", [1, 100, N])
@pytest.mark.parametrize("between", [True, False])
def test_gradients_that_are_cleared_before_each_step_are_named(size: int, between: bool) -> None:
    """Every other attempt is thrown away by `zero_grad`, and the step behind it finds nothing."""
    thrown = (T % 2 == 1) & between
    rows = {"grad_norm": np.where(T % 2 == 1, 0.5, np.nan), "skip_reason": 2.0 * thrown}
    attempts = Trace({"loss": 2.4 * noise(rng(1), N, 0.01), **rows})
    updates = Trace({"update_norm": np.where((T % 8 == 0) & (T > 0), 0.0, np.nan)})
    found = fired("idle_weights", ("", attempts), ("", updates), size=size)
    assert found and ("cleared before each step" in found[0].title) is between
    assert not between or "The last 8 updates measured up to step 64" in found[0].message
