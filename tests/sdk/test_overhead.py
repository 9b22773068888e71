"""The SDK's own measure of what it costs."""

from __future__ import annotations

import pytest

from nanwatch.probes.overhead import Overhead


def test_share_of_the_step_and_length_of_the_step() -> None:
    now = [10.0]
    overhead = Overhead(lambda: now[0])
    overhead.spent(5.0)
    assert overhead.step() is None and overhead.share == 0.0
    for _ in range(200):
        now[0] += 0.5
        overhead.spent(0.01)
        overhead.spent(0.04)
        assert overhead.step() == pytest.approx(0.5)
    assert overhead.share == pytest.approx(0.1, rel=1e-3)


def test_a_clock_that_stands_still_divides_nothing_by_zero() -> None:
    overhead = Overhead(lambda: 1.0)
    overhead.step()
    overhead.spent(1.0)
    assert overhead.step() == 0.0 and overhead.share == 0.0
