"""Gradients that an evaluation asks for (Fisher information, saliency) are no skipped updates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sdk.watched import Watched

Watch = Callable[..., Watched]


def pass_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()


@pytest.mark.parametrize("by_model", [False, True])
def test_fisher_information_between_two_tasks(watched: Watch, by_model: bool) -> None:
    watch = watched()
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))
    stray = nn.Linear(1, 1)  # in training mode, and nobody trains it
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(2):
        assert stray.training
        model.train()
        for _ in range(30):
            pass_of(model, optimizer)
            optimizer.step()
        model.eval()
        fisher = [torch.zeros_like(p) for p in model.parameters()]
        for _ in range(150):
            model.zero_grad() if by_model else optimizer.zero_grad()
            model(torch.randn(1, 4)).square().mean().backward()
            for total, p in zip(fisher, model.parameters(), strict=True):
                assert p.grad is not None
                total += p.grad.square()
    watch.read()
    assert watch.values("update_applied") == [1] * 60


def test_skips_of_a_model_that_is_left_in_evaluation_mode_are_seen(watched: Watch) -> None:
    watch = watched()
    model = nn.Linear(4, 1).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for step in range(40):
        pass_of(model, optimizer)
        if step % 2:
            optimizer.step()
    optimizer.zero_grad()
    watch.read()
    assert watch.values("update_applied") == [0, 1] * 20
