"""The LR factor holds under every scheduler, in every kind of step, and is never left behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from nanwatch.control.learning_rate import KEY, as_float, factor_of, set_factor
from sdk.watched import Watched

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.5),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (n + 1)),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 30),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], [5]
    ),
}


class Seen(torch.optim.SGD):
    """SGD that notes the learning rate its arithmetic really uses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used: list[list[float]] = []
        self.fail = False

    def step(self, closure: Any = None) -> Any:
        self.used.append([float(group["lr"]) for group in self.param_groups])
        if self.fail:
            raise RuntimeError("the user's own trouble")
        return super().step(closure)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(3, 1)


def step(model: torch.nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_factor_stands_on_top_of_the_schedule(name: str, watched: Callable[..., Watched]) -> None:
    def train(factor: float) -> list[float]:
        model = network()
        optimizer = Seen(model.parameters(), lr=0.1)
        scheduler = SCHEDULERS[name](optimizer)
        for n in range(25):
            if n == 10 and factor != 1:
                set_factor(optimizer, factor)
            step(model, optimizer)
            scheduler.step()
        return [used[0] for used in optimizer.used]

    watched()
    plain, scaled = train(1.0), train(0.25)
    assert scaled[:10] == plain[:10]
    assert scaled[10:] == pytest.approx([0.25 * lr for lr in plain[10:]], rel=1e-12)


def test_groups_keep_their_ratio_and_the_original_object_comes_back(
    watched: Callable[..., Watched],
) -> None:
    watched()
    model = network()
    original = 0.123456789
    optimizer = Seen(
        [{"params": [model.weight], "lr": original}, {"params": [model.bias], "lr": 1.0}]
    )
    set_factor(optimizer, 0.1)
    step(model, optimizer)
    assert optimizer.used == [[original * 0.1, 0.1]]
    assert optimizer.param_groups[0]["lr"] is original


def test_tensor_learning_rate_is_scaled_in_place_and_restored(
    watched: Callable[..., Watched],
) -> None:
    watched()
    model = network()
    rate = torch.tensor(0.5, dtype=torch.float64)
    optimizer = Seen(model.parameters(), lr=rate)
    set_factor(optimizer, 0.3)
    step(model, optimizer)
    assert optimizer.used == [[0.5 * 0.3]]
    assert optimizer.param_groups[0]["lr"] is rate and rate.item() == 0.5


def test_a_step_that_raises_leaves_nothing_behind(watched: Callable[..., Watched]) -> None:
    watched()
    model = network()
    optimizer = Seen(model.parameters(), lr=0.5)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    set_factor(optimizer, 0.1)
    optimizer.fail = True
    with pytest.raises(RuntimeError, match="own trouble"):
        step(model, optimizer)
    optimizer.fail = False
    scheduler.step()
    step(model, optimizer)
    assert optimizer.used[-1] == [pytest.approx(0.5 * 0.5 * 0.1)]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


class Outer(torch.optim.Optimizer):
    """An optimizer around another that shares its groups, as SAM and Lookahead are."""

    def __init__(self, inner: Seen) -> None:
        super().__init__([p for g in inner.param_groups for p in g["params"]], {})
        self.inner = inner
        self.param_groups = inner.param_groups

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)


def test_only_the_outermost_step_scales(watched: Callable[..., Watched]) -> None:
    seen = watched()
    model = network()
    inner = Seen(model.parameters(), lr=1.0)
    outer = Outer(inner)
    set_factor(outer, 0.5)
    for _ in range(4):
        step(model, outer)
    assert inner.used == [[0.5]] * 4
    assert sum(seen.run.observer.clock.counts.values()) == 4


def test_closures_run_inside_one_attempt(watched: Callable[..., Watched]) -> None:
    seen = watched()
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).square().mean()
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    assert seen.run.observer.clock.step == 6
    assert seen.read().values("update_applied") == [1.0] * 6


def test_users_checkpoint_carries_the_factor(watched: Callable[..., Watched]) -> None:
    watched()
    model = network()
    optimizer = Seen(model.parameters(), lr=1.0)
    set_factor(optimizer, 0.2)
    saved = optimizer.state_dict()
    other = Seen(network().parameters(), lr=1.0)
    other.load_state_dict(saved)
    assert factor_of(other) == 0.2
    set_factor(other, 1.0)
    assert all(KEY not in group for group in other.param_groups)


def test_a_rate_that_is_learnt_is_read_without_a_warning() -> None:
    rate = torch.tensor(0.25, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_float(rate) == as_float(0.25) == 0.25
