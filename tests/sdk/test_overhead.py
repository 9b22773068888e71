"""The SDK's own measure of what it costs, and how passes are thinned out to stay within it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nanwatch.probes.observations import NOTICES_MOST, Health
from nanwatch.probes.overhead import ALERT_ATTEMPTS, OFF, Cadence, Overhead
from nanwatch.probes.passes import ScopedCadence
from sdk.watched import Watched


class Loop:
    """A training whose clock is moved by hand: steps of a length, bookkeeping, passes."""

    def __init__(self, cap: float | None = None, share: float = 1.0) -> None:
        self.now = 10.0
        self.overhead = Overhead(lambda: self.now, cap)
        self.cadence = Cadence(self.overhead, share)
        self.passes_s = 0.0
        self.measured: list[bool] = []

    def step(self, work: float, fixed: float, cost: float, optimizers: int = 1) -> None:
        self.now += work + fixed
        self.overhead.spent(fixed)
        for number in range(optimizers):
            due = self.cadence.due(number)
            self.measured.append(due)
            if due:
                self.now += cost
                self.passes_s += cost
                self.overhead.spent(cost)
                self.cadence.spent(cost)
        self.overhead.step()


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


@pytest.mark.parametrize(("cost", "every"), [(0.5e-3, 1), (5e-3, 6), (50e-3, 56)])
def test_passes_take_at_most_their_part_of_the_step(cost: float, every: int) -> None:
    """1 % of a step of 100 ms, of which bookkeeping takes a tenth."""
    loop = Loop()
    for _ in range(2000):
        loop.step(0.1, 1e-4, cost)
    assert loop.cadence.every == pytest.approx(every, rel=0.15)
    loop.passes_s, begin = 0.0, loop.now
    for _ in range(2000):
        loop.step(0.1, 1e-4, cost)
    assert loop.passes_s / (loop.now - begin) <= 0.01


def test_a_pass_that_costs_more_than_a_step_finds_its_pace_at_once() -> None:
    """Over thousands of tensors a pass takes 0.4 s: ten of them, ever further apart, are felt."""
    loop = Loop()
    for _ in range(300):
        loop.step(0.25, 1e-3, 0.4)
    assert sum(loop.measured) <= 7


def test_a_slow_beginning_under_a_hard_cap_does_not_blind_for_long() -> None:
    """Finding the names takes long at first: then nothing is left for passes, but not for ever."""
    loop = Loop(0.01)
    for step in range(400):
        loop.step(0.1, 0.02 if step < 4 else 1e-5, 1e-4)
    seen = [step for step, due in enumerate(loop.measured) if due]
    assert max(b - a for a, b in itertools.pairwise(seen)) <= 64


@pytest.mark.parametrize("cap", [0.002, 0.02])
def test_a_hard_cap_holds_for_everything_together(cap: float) -> None:
    loop = Loop(cap)
    for _ in range(3000):
        loop.step(1e-2, 1e-5, 1e-3)
    begin, loop.passes_s = loop.now, 0.0
    for _ in range(3000):
        loop.step(1e-2, 1e-5, 1e-3)
    assert 0.5 * cap <= (loop.passes_s + 3000 * 1e-5) / (loop.now - begin) <= cap
    loop.cadence.alert()
    loop.step(1e-2, 1e-5, 1e-3)
    assert not all(loop.measured[-1:]), "a cap is a cap, also after a notice"


def test_no_budget_at_all_means_no_passes() -> None:
    loop = Loop(cap=0.0)
    for _ in range(3000):
        loop.step(1e-2, 0.0, 1e-3)
    assert not any(loop.measured)


def test_a_pass_that_was_interrupted_thins_out_nothing_for_long() -> None:
    loop = Loop()
    chance = random.Random(0)
    dense = 0
    for n in range(2000):
        noise = 1e-4 * abs(chance.gauss(0, 1))
        loop.step(0.1, 1e-4, 5.0 if n % 50 == 7 else 6e-4 + noise)
        dense += loop.cadence.every <= 2
    assert dense > 1900


def test_a_long_step_does_not_make_passes_look_cheap() -> None:
    loop = Loop()
    for _ in range(500):
        loop.step(0.1, 1e-4, 5e-3)
    loop.step(600.0, 1e-4, 5e-3)
    for _ in range(20):
        loop.step(0.1, 1e-4, 5e-3)
    assert loop.cadence.every >= 4


def test_optimizers_in_turn_are_measured_alike() -> None:
    loop = Loop()
    for _ in range(1000):
        loop.step(0.1, 1e-4, 1e-3, optimizers=2)
    counts = [sum(loop.measured[number::2]) for number in range(2)]
    assert min(counts) > 300 and abs(counts[0] - counts[1]) <= 2


def test_after_a_notice_every_attempt_is_measured_for_a_while() -> None:
    loop = Loop()
    for _ in range(500):
        loop.step(0.1, 1e-4, 20e-3)
    assert loop.cadence.every > 10
    loop.cadence.alert()
    del loop.measured[:]
    for _ in range(ALERT_ATTEMPTS + 5):
        loop.step(0.1, 1e-4, 20e-3)
    assert all(loop.measured[:ALERT_ATTEMPTS]) and not all(loop.measured[ALERT_ATTEMPTS:])


def test_how_often_is_said_as_it_is() -> None:
    cadence = Cadence(Overhead())
    assert cadence.text() == "every attempt"
    cadence.every = 6
    assert (cadence.text(), cadence.text(common=True)) == ("every 6", "every 8")
    cadence.alert()
    assert cadence.text() == "every attempt for now, else every 6"
    several = ScopedCadence(Overhead(), 0.1)
    several.named(["actor", "critic"])
    several.of("critic").every = 4
    assert several.text() == "every 1 to 4"
    several.of("critic").alert()
    assert several.text() == "every attempt for now, else every 1 to 4"
    assert Cadence(Overhead(cap=0.0)).text() == ScopedCadence(Overhead(cap=0.0), 0.1).text() == OFF


def test_an_optimizer_that_is_gone_no_longer_thins_out_the_rest() -> None:
    """Every fold makes an optimizer of its own: it counts only while it lives."""
    loop = Loop()
    for number in range(50):
        for _ in range(40):
            loop.now += 0.01
            loop.overhead.step()
            if loop.cadence.due(number):
                loop.cadence.spent(50e-6)
        assert loop.cadence.every == 1
        loop.cadence.forget(number)


def alerted(seen: Watched, after_step: Callable[[int], None], attempts: int) -> list[bool]:
    """A small training: after which attempts more was measured than the budget allows."""
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    found: list[bool] = []
    for n in range(attempts):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
        after_step(n)
        seen.read()  # as the background thread does
        found.append(seen.run.observer.cadence.alerted)
    return found


def test_a_metric_that_is_always_nan_switches_no_budget_off(watched: Callable[[], Watched]) -> None:
    seen = watched()
    found = alerted(seen, lambda n: seen.run.log(ep_len=math.nan, acc=0.5), 30)
    assert not any(found)
    assert len(seen.values("custom", "", "ep_len")) == 30
    assert seen.values("nonfinite", "", "logged") == [1.0] * 30
    assert [report.layers for report in seen.reports] == [["ep_len"]]


def test_what_stays_bad_is_measured_more_only_at_first(watched: Callable[[], Watched]) -> None:
    seen = watched()

    def spoil(n: int) -> None:
        seen.run.finite("context", math.nan if n >= 10 else 1.0)

    found = alerted(seen, spoil, ALERT_ATTEMPTS + 60)
    assert not any(found[:10])
    assert sum(found) == pytest.approx(ALERT_ATTEMPTS, abs=2) and not any(found[-40:])
    assert seen.values("nonfinite", "", "context")[10:] == [1.0] * (ALERT_ATTEMPTS + 50)


def test_what_comes_and_goes_is_reported_but_soon_no_reason_to_measure_more() -> None:
    health = Health()
    noticed: list[bool] = []
    for _ in range(20):
        assert health.turned_bad("", "loss", True) and not health.turned_bad("", "loss", True)
        noticed.append(health.noticed)
        health.noticed = False
        assert not health.turned_bad("", "loss", False)
    assert noticed == [True] * NOTICES_MOST + [False] * (20 - NOTICES_MOST)
    assert health.turned_bad("critic", "loss", True) and health.noticed, "something else"
