"""Gradient surgery (PCGrad): gradients of parts are taken and cleared before one step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from nanwatch.probes.attempts import APPLIED, USER_SKIPPED, AttemptClock, Backward
from sdk.watched import Watched

Watch = Callable[..., Watched]
Q = 0


def retained(*reached: int) -> Backward:
    return Backward(frozenset(reached), retained=True)


def surgery_step(clock: AttemptClock, parts: int, step: bool = True) -> list[int]:
    """Outcomes of one iteration of PCGrad: each part's gradients are taken and cleared."""
    outcomes: list[int] = []
    for _ in range(parts):
        outcomes += [attempt.outcome for attempt in clock.cleared([Q])]
        clock.backward(retained(Q))
    return outcomes + ([clock.stepped(Q).outcome] if step else [])


def test_parts_of_gradient_surgery_belong_to_one_attempt() -> None:
    clock = AttemptClock()
    first = [surgery_step(clock, 3) for _ in range(6)]
    assert first == [[USER_SKIPPED, USER_SKIPPED, APPLIED]] * 6  # nobody can know yet
    for _ in range(50):
        assert surgery_step(clock, 3) == [APPLIED]
    assert clock.counts[Q] == 6 * 3 + 50


def test_skips_under_gradient_surgery_are_seen_one_by_one() -> None:
    clock = AttemptClock()
    for _ in range(20):
        surgery_step(clock, 3)
    before = clock.step
    for _ in range(10):
        surgery_step(clock, 3, step=False)
    clock.cleared([Q])
    assert clock.step - before == 30


def test_a_graph_that_is_always_kept_hides_no_skips() -> None:
    clock = AttemptClock()
    for n in range(200):
        clock.backward(retained(Q))
        if n % 7 < 4:
            assert clock.stepped(Q).outcome == APPLIED
        assert len(clock.cleared([Q])) == (n % 7 >= 4)
    assert clock.step == 200


def test_gradient_surgery_is_one_applied_attempt_a_step(watched: Watch) -> None:
    """PCGrad: gradients of each task are taken and cleared, then one step with their mix."""
    watch = watched()
    body, heads = nn.Linear(4, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(3))
    parameters = [*body.parameters(), *heads.parameters()]
    optimizer = torch.optim.Adam(parameters)
    for _ in range(40):
        features = body(torch.randn(16, 4)).tanh()
        mixed = [torch.zeros_like(p) for p in parameters]
        for head in heads:
            optimizer.zero_grad()
            head(features).square().mean().backward(retain_graph=True)
            for sum_, p in zip(mixed, parameters, strict=True):
                if p.grad is not None:
                    sum_ += p.grad
        for sum_, p in zip(mixed, parameters, strict=True):
            p.grad = sum_
        optimizer.step()
    watch.read()
    applied = watch.values("update_applied")
    assert applied[:18] == [0, 0, 1] * 6
    assert applied[18:] == [1] * 34
    assert all(map(math.isfinite, watch.values("loss")))
