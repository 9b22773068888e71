"""Rings, the grid and the growth test against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanwatch_server.detect.growth import GrowthBank, corner
from nanwatch_server.detect.registry import limits
from nanwatch_server.detect.robust import TICK, Ring, cells, hold_last, theil_sen

LIMITS = limits()["grad_explosion"]


@given(st.lists(st.integers(1, 16), max_size=20), st.integers(1, 20))
def test_ring_window_is_the_last_columns(parts: list[int], n: int) -> None:
    ring, all_values = Ring(2, 16), np.empty((2, 0))
    for part in parts:
        values = np.arange(2 * part, dtype=float).reshape(2, part) + all_values.shape[1]
        ring.push(values)
        all_values = np.concatenate([all_values, values], axis=1)
    want = all_values[:, max(0, all_values.shape[1] - min(n, 16)) :]
    assert np.array_equal(ring.window(n), want)


@given(st.integers(0, 100), st.integers(0, 100))
def test_cells_cover_and_end_on_the_grid(seen: int, n: int) -> None:
    parts = list(cells(seen, n))
    assert [i for a, b, _ in parts for i in range(a, b)] == list(range(n))
    for start, stop, tick in parts:
        assert tick == ((seen + stop) % TICK == 0)
        assert (seen + start) // TICK == (seen + stop - 1) // TICK


def test_hold_last_fills_holes_across_calls() -> None:
    last = np.array([np.nan, 5.0])
    got = hold_last(np.array([[np.nan, 1.0, np.nan], [np.nan, 2.0, 3.0]]), last)
    assert np.array_equal(got, [[np.nan, 1, 1], [5, 2, 3]], equal_nan=True)
    assert np.array_equal(last, [1, 3])


def test_corner_finds_the_bend() -> None:
    rng = np.random.default_rng(0)
    logs = 0.05 * np.maximum(0, np.arange(256) - 150) + rng.normal(0, 0.1, 256)
    assert abs(corner(logs, np.arange(256) * 8) - 1200) < 80


def test_theil_sen_ignores_a_third_of_outliers() -> None:
    line = 0.5 * np.arange(30.0)
    line[::4] = 1e6
    assert theil_sen(line) == pytest.approx(0.5, abs=0.3)


def grown(logs: np.ndarray) -> list[tuple[int, float]]:
    """Records and doubling times at which row 0 was found to grow."""
    bank = GrowthBank(1, LIMITS)
    found = []
    for start, stop, _ in cells(0, len(logs)):
        if bank.push(logs[None, start:stop], np.arange(start, stop)):
            doubling = float(bank.doubling[0])
            if np.isfinite(doubling):
                found.append((stop, doubling))
    return found


@pytest.mark.parametrize("doubling", [10, 50, 150, 600, 2000])
def test_exponential_is_found_with_its_doubling_time(doubling: int) -> None:
    n = 400 + 8 * doubling
    t = np.maximum(0, np.arange(n) - 300)
    found = grown(t * np.log(2) / doubling + np.random.default_rng(1).normal(0, 0.05, n))
    assert found
    assert found[-1][1] == pytest.approx(doubling, rel=0.25)


@pytest.mark.parametrize("tau", [30, 100, 300, 1000])
def test_saturation_and_straight_lines_are_not_growth(tau: int) -> None:
    t = np.arange(1.0, 3001)
    rng = np.random.default_rng(2)
    for curve in (1 - np.exp(-t / tau), t / tau, np.sqrt(t / tau)):
        assert not grown(np.log(curve) + rng.normal(0, 0.05, 3000))
