"""Signs that only count beside something else: a finite loss over NaN, a level over a schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from families import RUN, Array, Trace, alarms, decay, noise

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Finding, Severity

N = 1200
T = np.arange(N)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def judged(trace: Trace, size: int = 100, **facts: str) -> list[Finding]:
    detector = RunDetector(RUN, trace.facts | facts)
    blocks = trace.blocks(range(size, len(trace), size))
    return alarms([found for block in blocks for found in detector.update(block)])


def rules(trace: Trace, **facts: str) -> set[str]:
    return {found.rule for found in judged(trace, **facts)}


def poisoned(applied: float) -> Trace:
    """Gradients that are NaN from step 600 on, under a loss that reads on."""
    norm = noise(rng(1), N, 0.1)
    norm[600:] = np.nan
    bad = np.where(T >= 600, 4.0, np.nan)
    taken = np.where(T >= 600, applied, 1.0)
    loss = decay(T) * noise(rng(), N, 0.05)
    return Trace({"loss": loss, "grad_norm": norm, "nonfinite": bad, "update_applied": taken})


def test_nan_behind_a_finite_loss_is_told_within_eight_updates() -> None:
    (found, *_) = [f for f in judged(poisoned(1.0)) if f.rule == "masked_nan"]
    assert found.severity == Severity.CRITICAL
    assert found.onset_step == 600 and found.step == 607


def test_updates_that_are_skipped_and_norms_not_measured_hide_nothing() -> None:
    assert "masked_nan" not in rules(poisoned(0.0))
    seldom = poisoned(1.0)
    seldom.scalars["nonfinite"] = np.full(N, np.nan)
    assert "masked_nan" not in rules(seldom)


def test_norms_that_are_measured_now_and_then_are_enough() -> None:
    seldom = poisoned(1.0)
    unmeasured = T % 3 != 0
    seldom.scalars["grad_norm"][unmeasured] = np.nan
    seldom.scalars["nonfinite"][unmeasured] = np.nan
    (found, *_) = [f for f in judged(seldom) if f.rule == "masked_nan"]
    assert found.onset_step == 600 and found.step == 621


def test_a_norm_that_is_finite_again_begins_the_count_anew() -> None:
    healing = poisoned(1.0)
    healing.scalars["grad_norm"][T % 5 == 0] = 1.0
    healing.scalars["nonfinite"][T % 5 == 0] = np.nan
    assert "masked_nan" not in rules(healing)


def test_attention_logits_beyond_softmax_are_told_by_two_reports() -> None:
    sizes = np.full((1, N), np.nan)
    sizes[0, [30, 60, 120, 240]] = [80.0, 700.0, 1500.0, 6000.0]
    loss = 2.3 * noise(rng(2), N, 0.02)
    trace = Trace({"loss": loss}, layers={"attention_logit_max_layer": (("block0",), sizes)})
    (found, *_) = [f for f in judged(trace) if f.rule == "attention_growth"]
    assert found.step == 240 and found.layer == "block0"


@pytest.mark.parametrize("batch", [1, 7, 64, N])
def test_two_reports_are_two_however_they_come(batch: int) -> None:
    sizes = np.full((1, N), np.nan)
    sizes[0, [30, 60, 61, 62, 90, 91]] = [1500.0, 700.0, 1500.0, 6000.0, 90.0, 2000.0]
    trace = Trace({"loss": decay(T)}, layers={"attention_logit_max_layer": (("a",), sizes)})
    found = [f for f in judged(trace, batch) if f.rule == "attention_growth"]
    assert [f.step for f in found] == [62]


def test_a_loss_that_stays_at_guessing_is_told_by_three_quarters_of_the_run() -> None:
    """It began above: by its fall alone it would have learnt."""
    classes = 10
    loss = (math.log(classes) + 0.3 * np.exp(-T / 20)) * noise(rng(3), N, 0.005)
    trace = Trace({"loss": loss})
    (found, *_) = [
        f for f in judged(trace, classes=str(classes), steps="1000") if f.rule == "plateau"
    ]
    assert 750 <= found.step <= 770 and "no better than guessing (2.303)" in found.title
    assert "plateau" not in rules(trace, steps="1000")
    learns = Trace({"loss": decay(T) * math.log(classes)})
    assert not rules(learns, classes=str(classes), steps="1000")


def climbing(rate: Array) -> Trace:
    """Learnt well until step 500, worse than untrained from step 700 on, and rising."""
    loss = np.where(T < 500, 1.0 + 2.0 * np.exp(-T / 80), 1.0 + (T - 500) / 100)
    return Trace({"loss": loss * noise(rng(4), N, 0.03), "lr": rate})


def test_a_loss_above_its_start_is_told_sooner_while_the_rate_climbs() -> None:
    def first(rate: Array) -> int:
        return min(f.step for f in judged(climbing(rate)) if f.rule == "loss_divergence")

    soon, late = first(1e-5 * (1 + T)), first(np.full(N, 1e-2))
    assert 600 < soon <= 680 < late


@pytest.mark.parametrize("batch", [1, 7, 64, N])
def test_a_climbing_rate_is_the_same_however_it_comes(batch: int) -> None:
    trace = climbing(1e-5 * (1 + np.maximum(0, T - 480)))
    assert [(f.rule, f.step) for f in judged(trace, batch)] == [
        (f.rule, f.step) for f in judged(trace, 100)
    ]


def test_growing_gradients_are_excused_while_the_loss_stands_at_its_best() -> None:
    """As the log-likelihood of a model that grows ever surer; it has stopped to fall by then."""
    norm = 3.0 * noise(rng(5), N, 0.2) * 2.0 ** (np.clip(T - 400, 0, 400) ** 1.3 / 400)
    best = 3.0 * np.exp(-T / 60) - 1.0 + 0.05 * rng(6).standard_normal(N)
    assert "grad_explosion" not in rules(Trace({"loss": best, "grad_norm": norm}))
    lost = best + np.clip(T - 450, 0, None) / 100
    assert "grad_explosion" in rules(Trace({"loss": lost, "grad_norm": norm}))


def test_an_explosion_at_the_first_record_of_a_task_is_one() -> None:
    """The new task makes the weights run away: what it brings is no untrained level."""
    first = decay(np.arange(400)) * noise(rng(7), 400, 0.05)
    after = np.concatenate([[900.0, 4e3, 2e4], decay(np.arange(397))])
    trace = Trace({"loss": np.concatenate([first, after])})
    detector = RunDetector(RUN, trace.facts)
    found = []
    for block in trace.blocks([400]):
        if block.steps[0] >= 400:
            detector.mark("task", 400, {})
        found += detector.update(block)
    assert [f.rule for f in alarms(found)][:1] == ["loss_explosion"]


def surging(leaps: list[int], rate: Array) -> Trace:
    """Loss five times and norm twenty times the usual at some records."""
    loss, norm = decay(T) * noise(rng(5), N, 0.1), noise(rng(6), N, 0.2)
    loss[leaps] *= 5.0
    norm[leaps] *= 20.0
    return Trace({"loss": loss, "grad_norm": norm, "lr": rate})


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_leaps_that_cluster_while_the_rate_climbs_are_told(batch: int) -> None:
    climbs, stays = 1e-3 * (1 + T / 400), np.full(N, 1e-3)
    cluster = surging([600, 602, 605], climbs)
    (found,) = [f for f in judged(cluster, batch) if f.rule == "surge"]
    assert found.step == 605 and found.onset_step == 600
    assert "surge" not in rules(surging([600, 640, 690], climbs))  # single batches
    assert "surge" not in rules(surging([600, 602, 605], stays))  # a notice: data may drift
    far = surging([600, 602, 605], stays)
    far.scalars["grad_norm"][[600, 602, 605]] *= 5
    assert "surge" in rules(far)


def leaping(loss: float, norm: float, clip: bool = False) -> Trace:
    """One record at which both leap from 0.2 and 1, without any before."""
    trace = surging([], np.full(N, 1e-3))
    trace.scalars["loss"][601] *= loss
    trace.scalars["grad_norm"][601] *= norm
    if clip:
        trace.scalars["clip_threshold"] = np.full(N, 1.0)
    return trace


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_one_leap_beyond_everything_is_told_at_once(batch: int) -> None:
    (found,) = [f for f in judged(leaping(80, 300), batch) if f.rule == "surge"]
    assert found.step == found.onset_step == 601 and found.severity == Severity.WARNING
    assert found.title.endswith("in one step") and "no clip" in found.message


def test_one_leap_that_a_clip_shortens_or_that_was_there_before_is_a_batch() -> None:
    assert "surge" not in rules(leaping(80, 300, clip=True))
    assert "surge" not in rules(leaping(8, 300))
    assert "surge" not in rules(leaping(80, 30))
    before = leaping(80, 300)
    before.scalars["loss"][3] *= 80  # as when it was untrained
    assert "surge" not in rules(before)


@pytest.mark.parametrize(("sign", "told"), [(-1.0, True), (1.0, False)])
def test_logits_that_carry_the_loss_below_zero_are_told(sign: float, told: bool) -> None:
    """Label smoothing of the wrong sign, gradient ascent: the objective has no bottom."""
    logits = 3.0 + T * noise(rng(7), N, 0.05)
    loss = sign * 0.5 * logits if sign < 0 else decay(T)
    trace = Trace({"loss": loss * noise(rng(8), N, 0.02), "logit_max": logits})
    found = [f for f in alarms(judged(trace)) if f.rule == "logit_growth"]
    assert bool(found) is told
    if found:
        assert "no bottom" in found[0].message and found[0].step < 300


def test_steps_that_half_precision_rounds_away_are_told() -> None:
    ratio = np.full((2, N), np.nan)
    ratio[:, ::20] = 1e-4
    stands = Trace(
        {"loss": 3.0 * noise(rng(7), N, 0.02)}, layers={"update_ratio_layer": (("a", "b"), ratio)}
    )
    (found, *_) = [f for f in judged(stands, weights_dtype="bfloat16") if f.rule == "update_ratio"]
    assert found.severity == Severity.WARNING and "0.0002441" in found.message
    assert "update_ratio" not in rules(stands, weights_dtype="float32")


def test_a_plateau_that_begins_to_fall_is_waited_for() -> None:
    loss = (math.log(10) - 1.5 * np.clip((T - 640) / 300, 0, 1)) * noise(rng(8), N, 0.005)
    assert "plateau" not in rules(Trace({"loss": loss}), classes="10", steps="1000")
    stuck = math.log(10) * noise(rng(8), N, 0.005)
    assert "plateau" in rules(Trace({"loss": stuck}), classes="10", steps="1000")


def test_heavy_tails_in_the_first_records_are_no_explosion() -> None:
    rest = np.full(N - 8, 8.0) * noise(rng(9), N - 8, 0.3)
    tails = np.array([0.142, 14, 4.68, 6.07, 11.9, 3.19, 18.9, 28.6])
    assert "loss_explosion" not in rules(Trace({"loss": np.concatenate([tails, rest])}))


def test_a_loss_that_explodes_hides_no_nan() -> None:
    loud = poisoned(1.0)
    loud.scalars["loss"][600:] = 4e26
    assert "masked_nan" not in rules(loud)
    loud.scalars["loss"][600:] = 1e6  # a penalty that stands in for NaN
    assert "masked_nan" in rules(loud)


RISES, FALLS_AGAIN = 10 + T / 20, np.where(T < 300, T / 10, 30 - np.clip((T - 300) / 10, 0, 21))


def test_a_policy_may_leave_its_reference_while_its_rewards_rise() -> None:
    kl = np.clip(T / 400, 0, 2)
    assert "policy_shift" not in rules(Trace({"kl": kl, "reward": RISES}))
    assert "policy_shift" in rules(Trace({"kl": kl, "reward": FALLS_AGAIN}))
    assert "policy_shift" in rules(Trace({"kl": kl, "entropy": 1 + 0 * kl}))  # nothing tells


def test_rewards_that_were_lost_again_excuse_no_collapse() -> None:
    entropy = np.where(T < 400, 0.7, 0.02) + 0 * T
    assert "entropy_collapse" not in rules(Trace({"entropy": entropy, "reward": RISES}))
    assert "entropy_collapse" in rules(Trace({"entropy": entropy, "reward": FALLS_AGAIN}))


def test_entropy_that_is_gone_after_three_updates_is_told() -> None:
    entropy = np.where(T < 3, 0.7, 0.001)
    assert "entropy_collapse" in rules(Trace({"entropy": entropy, "reward": 10 + 0.0 * T}))


def test_entropy_that_is_gone_in_the_first_half_is_excused_by_doubled_rewards_alone() -> None:
    def told(at: int, reward: Array = 100 + T / 20, **facts: str) -> bool:
        entropy = np.where(at > T, 0.7, 0.003)
        return "entropy_collapse" in rules(Trace({"entropy": entropy, "reward": reward}), **facts)

    assert told(200) and told(200, max_steps=str(2 * N))
    assert not told(600) and told(600, max_steps="4000")
    assert told(550, max_steps=str(N)) and not told(650, max_steps=str(N))
    assert not told(200, reward=10 + T / 10)


@pytest.mark.parametrize(
    "first", [[1, 40, 2000, 3, 2.9, 3, 3, 3], [1, 30, 900, 2.7e4, 8e5, 2e7, 1e7, 5]]
)
def test_the_first_records_are_judged_as_of_each(first: list[float]) -> None:
    trace = Trace({"loss": np.concatenate([first, np.full(N - 8, 3.0)])})

    def found(size: int) -> list[tuple[int, int]]:
        every = judged(trace, size)
        return [(f.step, f.severity) for f in every if f.rule == "loss_explosion"]

    assert found(1) == found(5) == found(100) and found(1)


@pytest.mark.parametrize("level", [1.0, -1.0])
def test_tiny_norms_harm_nobody_whatever_the_sign_of_the_loss(level: float) -> None:
    norm = 1e-6 * noise(rng(10), N, 0.1)
    norm[[600, 601, 602]] *= 2000
    loss = level + 0.01 * rng(11).normal(size=N)
    assert "grad_explosion" not in rules(Trace({"loss": loss, "grad_norm": norm}))


def test_jumps_that_come_back_within_one_block_are_told_twice() -> None:
    norm = noise(rng(12), N, 0.1)
    norm[300:303] = norm[504:507] = 5e4
    loss = np.where(norm > 100, 9.0, 1.0)
    trace = Trace({"loss": loss, "grad_norm": norm})

    def found(size: int) -> list[int]:
        return [f.step for f in judged(trace, size) if f.rule == "grad_explosion"]

    assert found(1) == found(100) == found(N - 1)
    assert len(found(1)) >= 2


@pytest.mark.parametrize("odd", [0.0, math.nan, -math.inf])
def test_one_odd_loss_silences_no_surge(odd: float) -> None:
    trace = surging([600, 602, 605], 1e-3 * (1 + T / 400))
    trace.scalars["loss"][100] = odd
    assert "surge" in rules(trace)


def test_bf16_weights_that_move_by_a_thousandth_are_well() -> None:
    ratio = np.full((2, N), np.nan)
    ratio[:, ::20] = 1e-3
    flat = Trace(
        {"loss": 3.0 * noise(rng(7), N, 0.02)}, layers={"update_ratio_layer": (("a", "b"), ratio)}
    )
    assert "update_ratio" not in rules(flat, weights_dtype="bfloat16")


def test_rewards_are_known_as_of_their_step() -> None:
    detector = RunDetector(RUN, {})
    steps = np.arange(1, 101)
    at = steps[49::50]
    rewards = Block("", "train", at, at * 0.1, {"reward": np.array([5.0, -9.0])})
    losses = Block("", "train", steps, steps * 0.1, {"loss": np.ones(100)})
    detector.feed([losses, rewards])
    upto = detector.context.rewards.upto(np.array([49, 50, 99, 100]))
    assert np.array_equal(upto, [math.nan, 5, 5, 9], equal_nan=True)
    assert np.array_equal(detector.context.reward_limits, [5, 9])
