"""Weights that no gradient reaches beside parameters that have one, told exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nanwatch.probes.gradients import unreached
from nanwatch.probes.registry import layout_of
from sdk.watched import Watched

Watch = Callable[..., Watched]

KIND = "unreached_fraction_layer"


class Rounded(nn.Linear):
    """Weights on a grid, without a way for the gradient past the rounding."""

    through = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rounded = torch.round(self.weight * 4) / 4
        if self.through:
            rounded = self.weight + (rounded - self.weight).detach()
        return F.linear(x, rounded, self.bias)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = Rounded(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


def train(
    model: nn.Module, steps: int, *, clips: bool, optimizer: torch.optim.Optimizer | None = None
) -> None:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(16, 4)), torch.randint(0, 3, (16,))).backward()
        if clips:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@pytest.mark.parametrize("clips", [True, False])
def test_a_rounded_weight_beside_a_bias_that_learns(watched: Watch, clips: bool) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9  # measured at every attempt
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    train(model, 6, clips=clips, optimizer=optimizer)
    assert seen.read().values(KIND, layer="first") == [32 / 40] * 6
    assert not seen.series(KIND, layer="last"), "the weights of this one learn"
    model.first.through = True
    train(model, 3, clips=clips, optimizer=optimizer)
    assert seen.read().values(KIND, layer="first")[-3:] == [0.0] * 3, "mended: told as well"


def test_what_is_frozen_or_out_of_use_is_not_unreached(watched: Watch) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    model[0].weight.requires_grad_(False)  # biases alone, as in BitFit
    train(model, 5, clips=True)
    idle = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        idle[0].bias.fill_(-1e6)  # dead: weight and bias alike
    train(idle, 5, clips=True)
    seen.read()
    assert not [name for name in seen.points if name[0] == KIND and name[2] in ("0", "idle.0")]


def test_weights_behind_dead_units_are_unreached(watched: Watch) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].bias.fill_(-1e6)
    train(model, 5, clips=False)
    assert seen.read().values(KIND, layer="2") == [24 / 27] * 5


def test_lazy_parameters_are_given_to_an_optimizer_before_they_have_a_shape() -> None:
    lazy, plain = nn.LazyLinear(3), nn.Linear(4, 3)
    layout = layout_of([*lazy.parameters(), *plain.parameters()], {})
    assert layout.sizes == [0, 0, 12, 3]
    assert unreached(layout, [0, 1, 2, 3], [0.0, 1.0, 0.0, 1.0]) == {2: 1.0}


def test_an_attempt_that_is_not_finite_says_nothing_of_it(watched: Watch) -> None:
    seen = watched()
    seen.run.observer.overhead.cap = 1e9
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    train(model, 3, clips=False, optimizer=optimizer)
    optimizer.zero_grad()
    (model(torch.randn(16, 4)).mean() * float("nan")).backward()
    optimizer.step()
    train(model, 2, clips=False, optimizer=optimizer)
    assert [step for step, _ in seen.read().series(KIND, layer="first")] == [1, 2, 3]
