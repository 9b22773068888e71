"""Rings, the grid and the growth test against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanwatch_server.detect.growth import GrowthBank, corner
from nanwatch_server.detect.registry import limits
from nanwatch_server.detect.robust import TICK, Ring, cells, hold_last, theil_sen
from nanwatch_server.detect.state import plain

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


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20), st.integers(0, 40))
def test_columns_placed_ahead_count_when_they_are_taken_in(parts: list[int], n: int) -> None:
    one_by_one, ring, at = Ring(2, 16), Ring(2, 16, ahead=40), 0
    for part in parts:
        values = np.arange(2 * part, dtype=float).reshape(2, part) + at
        at += part
        placed = 0
        for column in range(part):
            if column >= placed:
                placed = column + ring.place(values[:, column:])
            ring.advance(1)
            one_by_one.push(values[:, column : column + 1])
            assert np.array_equal(ring.window(n), one_by_one.window(n))
    back = Ring(2, 16, ahead=40)
    back.load(ring.dump())
    for one in (ring, back):
        one.push(np.ones((2, 3)))
    assert np.array_equal(back.window(16), ring.window(16)) and back.count == ring.count


@pytest.mark.parametrize("count", [5, 16, 21, 40])
def test_a_ring_that_wrote_every_column_twice_is_taken_over(count: int) -> None:
    values = np.arange(2.0 * count).reshape(2, count)
    twice = np.full((2, 32), np.nan)
    for at in range(count):
        twice[:, at % 16] = twice[:, at % 16 + 16] = values[:, at]
    ring = Ring(2, 16)
    ring.load({"data": plain(twice), "count": count})
    assert ring.count == count
    assert np.array_equal(ring.window(16), values[:, -16:])


@pytest.mark.parametrize("rows", [1, 2, 5, 97])
@pytest.mark.parametrize("block", [3, 64, 100, 256])
def test_calm_cells_at_once_leave_what_cell_by_cell_leaves(rows: int, block: int) -> None:
    rng = np.random.default_rng(rows)
    t = np.arange(2_000)
    logs = rng.normal(0, 0.3, (rows, len(t))) + 0.1 * np.arange(rows)[:, None]
    logs[0] += np.where(t < 1_200, 0.02 * np.maximum(0, t - 900), 0.0)  # grows, and is well again
    logs[-1, 300:310] = np.nan
    alone, together, at_once = GrowthBank(rows, LIMITS), GrowthBank(rows, LIMITS), 0
    for start, stop, _ in cells(0, len(t)):
        alone.push(logs[:, start:stop], t[start:stop])
    for begin in range(0, len(t), block):
        piece, steps = logs[:, begin : begin + block], t[begin : begin + block]
        for start, stop, stretch in together.parts(piece, lambda *_: True):
            if stretch is None:
                together.push(piece[:, start:stop], steps[start:stop])
            else:
                together.take(piece[:, start:stop], steps[start:stop], stretch)
                at_once += stop - start
    assert together.dump() == alone.dump()
    assert (at_once > 800) == (block >= 64)


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
