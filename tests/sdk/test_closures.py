"""Gradients that come into being inside the step are measured there, not the stale ones before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sdk.watched import Watched


def test_the_norm_of_a_closure_is_of_its_own_gradients(watched: Callable[..., Watched]) -> None:
    spy = watched()
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    truth: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(torch.randn(8, 4)).square().mean()
        loss.backward()
        truth.append(float(torch.nn.utils.get_total_norm([p.grad for p in net.parameters()])))
        return loss

    for _ in range(20):
        optimizer.step(closure)
    measured = spy.read().series("grad_norm")
    assert measured[0][0] == 1 and len(measured) >= 5
    for step, norm in measured:
        assert norm == pytest.approx(truth[step - 1], rel=1e-5)


def test_clipping_inside_a_closure_leaves_the_norm_before_it(
    watched: Callable[..., Watched],
) -> None:
    spy = watched()
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    truth: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(torch.randn(8, 4)).square().mean()
        loss.backward()
        truth.append(float(nn.utils.clip_grad_norm_(net.parameters(), 1e-3)))
        return loss

    for _ in range(10):
        optimizer.step(closure)
    spy.read()
    assert spy.values("grad_norm") == pytest.approx(truth, rel=1e-5)
    assert spy.values("clip_threshold") == [1e-3] * 10
