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


def test_an_optimizer_that_steps_inside_backward_has_the_loss_of_that_pass(
    watched: Callable[..., Watched],
) -> None:
    seen = watched()
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizers = {p: torch.optim.SGD([p], 0.01) for p in model.parameters()}

    def step(parameter: torch.Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    losses: list[float] = []
    for _ in range(6):
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        losses.append(loss.item())
    seen.read()
    (series,) = [points for (kind, _, _), points in seen.points.items() if kind == "loss"]
    assert series == [(n + 1, loss) for n, loss in enumerate(losses)]
    applied = [points for (kind, _, _), points in seen.points.items() if kind == "update_applied"]
    assert [len(points) for points in applied] == [6] * 4


def test_a_pass_inside_a_pass_is_booked_like_any_other(watched: Callable[..., Watched]) -> None:
    """Reentrant checkpointing runs backward again inside backward."""
    from torch.utils.checkpoint import checkpoint

    seen = watched()
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    losses: list[float] = []
    for _ in range(4):
        optimizer.zero_grad()
        x = torch.randn(8, 4, requires_grad=True)
        loss = checkpoint(model, x, use_reentrant=True).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert seen.read().values("update_applied") == [1.0] * 4
    assert seen.values("grad_norm")
    assert seen.run.observer._running == []


def test_a_backward_that_raised_leaves_nothing_to_the_next_step(
    watched: Callable[..., Watched],
) -> None:
    seen = watched()
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    loss = model(torch.ones(2, 4)).square().mean()
    again = 5 * loss
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        again.backward()
    optimizer.step()
    assert seen.read().values("loss") == [loss.item()]
    assert seen.values("update_applied") == [1.0]


class TwoPasses(torch.optim.SGD):
    """Sharpness-aware: climbs, asks the closure again, steps from where it was, clears."""

    def step(self, closure: Callable[[], torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        parameters = self.param_groups[0]["params"]
        closure()
        with torch.no_grad():
            climbs = [0.05 * p.grad / p.grad.norm() for p in parameters]
            for p, climb in zip(parameters, climbs, strict=True):
                p.add_(climb)
        self.zero_grad()
        loss = closure()
        with torch.no_grad():
            for p, climb in zip(parameters, climbs, strict=True):
                p.sub_(climb)
        super().step()
        self.zero_grad()
        return loss


def test_a_step_that_clears_its_own_gradients_did_move_the_weights(
    watched: Callable[..., Watched],
) -> None:
    spy = watched()
    spy.run.observer.overhead.cap = 1e9  # measured at every attempt
    net = nn.Linear(4, 1)
    optimizer = TwoPasses(net.parameters(), 0.1)

    def closure() -> torch.Tensor:
        loss = (net(torch.ones(8, 4)) - 1).square().mean()
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    moved = spy.read().values("update_norm")
    assert moved and all(norm > 0 for norm in moved[1:])
