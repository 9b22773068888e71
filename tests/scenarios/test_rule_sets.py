"""The published rule sets and the intervals of the scorecard, on series whose answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scenarios.corpus.reading import Reading

from corpuskit import HEALTHY, N, bad_at, falling, norms, trace

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    from detection import wilson
    from rule_sets import RULE_SETS
finally:
    sys.path.remove(BENCHMARKS)

AT = 400


def said(**kinds: np.ndarray) -> dict[str, int | None]:
    """What each rule set says of a run."""
    reading = Reading(trace(HEALTHY, **kinds))
    return {tool: rules(reading) for tool, rules in RULE_SETS.items()}


def test_a_value_that_is_not_finite_is_seen_by_all_that_look_for_it() -> None:
    found = said(loss=bad_at(falling(), AT), param_norm=np.ones(N))
    assert found["Lightning"] == found["DeepDiagnosis"] == found["OLMo-core"] == AT
    assert found["SageMaker Debugger"] == AT  # a multiple of its 25 attempts


def test_autotrainer_asks_only_until_the_loss_has_halved() -> None:
    never = np.full(N, 2.0) + 0.01 * norms()
    assert said(loss=bad_at(never, AT))["AutoTrainer"] == AT + 2  # every 3rd attempt
    assert said(loss=bad_at(falling(), AT))["AutoTrainer"] is None


def test_a_loss_that_stands_still_is_not_decreasing() -> None:
    flat = np.where(np.arange(N) < 300, np.linspace(2, 1, N), 1.5)
    found = said(loss=flat)["SageMaker Debugger"]
    assert found is not None and 300 <= found <= 575


def test_spikes() -> None:
    spiky = norms()
    spiky[AT] = 60.0
    found = said(loss=np.linspace(2, 1, N), grad_norm=spiky)
    assert found["OLMo-core"] == AT
    assert found["ZClip"] is not None and found["ZClip"] <= AT
    assert found["Lightning"] is None


def test_quiet_series_set_nobody_off() -> None:
    calm = 1 + 0.001 * np.sin(np.arange(N))
    found = said(loss=np.linspace(2, 1, N), grad_norm=calm)
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 150, 0.0, 0.0250), (3, 150, 0.0068, 0.0571), (95, 100, 0.8882, 0.9785), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=1e-4)
