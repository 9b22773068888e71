"""Sick trainings are warned about long before the first value that is not finite."""

from __future__ import annotations

import numpy as np
import pytest
from families import RUN, Trace, alarms, exploding, exploding_q, noise, watch

from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.domain.models import Severity


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("doubling", [5, 12, 30, 75, 150, 300])
def test_exponential_growth(doubling: int, clip: float | None) -> None:
    for seed in range(3):
        n = 200 + 12 * doubling + 200
        found = alarms(watch(exploding(np.random.default_rng(seed), n, doubling, clip)))
        assert found, f"seed {seed}: silent"
        first = found[0]
        overflow = 200 + 128 * doubling
        assert 200 < first.step < 200 + 12 * doubling + 100 < overflow
        # the onset is where growth began, not where the rule fired
        growth = next(f for f in found if f.rule == "grad_explosion")
        assert abs(growth.onset_step - 200) <= max(64, 1.5 * doubling)
        assert growth.step < 200 + 12 * doubling + 100


def test_growth_with_clip_saturates_the_clip() -> None:
    found = alarms(watch(exploding(np.random.default_rng(0), 3000, 40, 1.0)))
    worst = {f.rule: f.severity for f in found}
    assert worst["clip_saturation"] == Severity.CRITICAL


@pytest.mark.parametrize("doubling", [2, 3])
def test_explosion_within_few_steps(doubling: int) -> None:
    found = alarms(watch(exploding(np.random.default_rng(1), 700, doubling, None)))
    first_inf = 200 + 128 * doubling
    assert found[0].step <= first_inf - 60 * doubling
    assert abs(found[0].onset_step - 200) <= 16


def test_jump_that_stays() -> None:
    rng = np.random.default_rng(2)
    norm = noise(rng, 900, 0.3)
    norm[500:] *= 1e5
    found = alarms(watch(Trace({"grad_norm": norm, "loss": np.ones(900)})))
    assert (found[0].rule, found[0].step, found[0].onset_step) == ("grad_explosion", 502, 500)
    assert found[0].severity == Severity.CRITICAL


def test_two_steps_from_calm_to_nan() -> None:
    """A small transformer under plain SGD: 25, 893, 2e7, NaN."""
    norm = noise(np.random.default_rng(7), 200, 0.2)
    norm[100:104] = [25, 893, 2.06e7, np.nan]
    first = alarms(watch(Trace({"grad_norm": norm, "loss": np.ones(200)})))[0]
    assert (first.rule, first.step, first.onset_step) == ("grad_explosion", 102, 100)


@pytest.mark.parametrize("reward", [1.0, 5000.0])
@pytest.mark.parametrize("doubling", [10, 60, 250])
def test_q_growth(doubling: int, reward: float) -> None:
    trace = exploding_q(np.random.default_rng(3), 200 + 24 * doubling + 300, doubling, reward)
    found = [f for f in alarms(watch(trace)) if f.rule == "q_growth"]
    assert found, "silent"
    # fp32 loses the squared error at 2^64
    assert found[0].step < 200 + 0.6 * 64 * doubling
    assert found[0].onset_step < 200 + 4 * doubling + 64


def test_loss_that_rises_and_stays() -> None:
    rng = np.random.default_rng(4)
    loss = np.where(np.arange(1500) < 800, 1.0, 15.0) * noise(rng, 1500, 0.1)
    found = alarms(watch(Trace({"loss": loss})))
    assert found[0].rule == "loss_divergence"
    assert 800 < found[0].step < 900
    assert abs(found[0].onset_step - 800) <= 30


def test_rising_loss_of_a_critic_is_no_alarm() -> None:
    loss = np.where(np.arange(1500) < 800, 1.0, 30.0) * noise(np.random.default_rng(1), 1500, 0.02)
    found = watch(Trace({"loss": loss}), facts={"gamma": "0.99"})
    assert found and not alarms(found)


def test_layer_that_alone_explodes_is_named() -> None:
    rng = np.random.default_rng(5)
    n = 900
    quiet, loud = noise(rng, n, 0.3), noise(rng, n, 0.3)
    loud *= 2.0 ** (np.maximum(0, np.arange(n) - 300) / 20)
    names = ("embed", "gru.weight_hh_l0", "head")
    layers = np.stack([quiet, loud, quiet])
    total = np.sqrt((layers**2).sum(0))
    trace = Trace({"grad_norm": total}, layers={"grad_norm_layer": (names, layers)})
    first = alarms(watch(trace))[0]
    assert first.layer == "gru.weight_hh_l0"
    assert "gru.weight_hh_l0" in first.message


def test_sampled_norms_give_doubling_in_steps() -> None:
    """A norm measured every fourth attempt: the clock stays the attempt."""
    rng = np.random.default_rng(6)
    trace = exploding(rng, 600, 20, None)
    detector = RunDetector(RUN, {})
    block = trace.block(0, 600)
    sampled = type(block)("", "train", block.steps * 4, block.times, block.scalars, {})
    grown = [f for f in detector.update(sampled) if f.doubling_steps and f.severity >= 2]
    assert grown[0].doubling_steps == pytest.approx(80, rel=0.4)
