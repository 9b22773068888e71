"""A loop that never clears its gradients is told; the many ways to clear them are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nanwatch.probes.kept_gradients import KeptGradients
from sdk.watched import Watched

Watch = Callable[..., Watched]


@pytest.fixture(params=["at hand", "on a device"], autouse=True)
def values(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As for tensors on a CPU, and as for those whose values would have to be waited for."""
    here = request.param == "at hand"
    monkeypatch.setattr(KeptGradients, "waits_for_nothing", staticmethod(lambda gradient: here))
    return request.param


KIND = "grad_kept"


def loss_of(model: nn.Module) -> torch.Tensor:
    return (model(torch.randn(8, 4)) - 1).square().mean()


def train(clear: Callable[[nn.Module, torch.optim.Optimizer], None], steps: int = 12) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(steps):
        clear(model, optimizer)
        loss_of(model).backward()
        optimizer.step()


def by_data(model: nn.Module, _: torch.optim.Optimizer) -> None:
    for p in model.parameters():
        if p.grad is not None:
            p.grad.data.zero_()


def by_none(model: nn.Module, _: torch.optim.Optimizer) -> None:
    for p in model.parameters():
        p.grad = None


CLEARS: dict[str, Callable[[nn.Module, torch.optim.Optimizer], None]] = {
    "optimizer": lambda model, optimizer: optimizer.zero_grad(),
    "to zero": lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
    "model": lambda model, optimizer: model.zero_grad(),
    "data": by_data,
    "none": by_none,
}


def test_gradients_that_nobody_clears(watched: Watch) -> None:
    seen = watched()
    train(lambda model, optimizer: None)
    kept = seen.read().values(KIND)
    assert len(kept) == 11, "every attempt but the first"
    assert all(value > 0 for value in kept)


@pytest.mark.parametrize("how", CLEARS)
def test_every_way_to_clear(watched: Watch, how: str, values: str) -> None:
    if (how, values) == ("data", "on a device"):
        pytest.skip("`.data` goes round the version counter: only the value tells")
    seen = watched()
    train(CLEARS[how])
    assert not seen.read().series(KIND)


def test_accumulation_over_batches_is_no_leftover(watched: Watch) -> None:
    seen = watched()
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(8):
        for _ in range(3):
            (loss_of(model) / 3).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
    assert not seen.read().series(KIND)


def test_a_game_of_two_clears_each_before_its_own_pass(watched: Watch) -> None:
    """The generator's pass reaches the discriminator while that holds what its step left."""
    seen = watched()
    generator, discriminator = nn.Linear(4, 4), nn.Linear(4, 1)
    g = torch.optim.SGD(generator.parameters(), 0.01)
    d = torch.optim.SGD(discriminator.parameters(), 0.01)
    for _ in range(8):
        d.zero_grad(set_to_none=False)
        discriminator(torch.randn(8, 4)).mean().backward()
        (-discriminator(generator(torch.randn(8, 4)).detach()).mean()).backward()
        d.step()
        g.zero_grad(set_to_none=False)
        discriminator(generator(torch.randn(8, 4))).mean().backward()
        g.step()
    assert not seen.read().series(KIND)


def test_a_closure_that_clears(watched: Watch) -> None:
    seen = watched()
    model = nn.Linear(4, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(8):
        optimizer.step(closure)
    assert not seen.read().series(KIND)


def test_a_parameter_outside_the_model_that_is_cleared_is_not_all(watched: Watch) -> None:
    """`model.zero_grad()` leaves a temperature beside the model uncleared: a smaller matter."""
    seen = watched()
    model, temperature = nn.Linear(4, 2), nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([temperature, *model.parameters()], 0.01)
    for _ in range(12):
        model.zero_grad()
        (loss_of(model) * temperature).backward()
        optimizer.step()
    assert not seen.read().series(KIND)
