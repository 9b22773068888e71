"""What an adversarial review of guards, probes and forensics found: each test failed before."""

from __future__ import annotations

import copy
import gc
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from nanwatch import guards
from nanwatch.control.holding import Hold
from nanwatch.guards.tally import FRESH_MOST, TALLY, Tally
from nanwatch.probes import discovery
from sdk.watched import Watched


@pytest.fixture(autouse=True)
def _own_tally(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, fresh in vars(Tally()).items():
        monkeypatch.setattr(TALLY, name, fresh)
    yield


def bad() -> torch.Tensor:
    tensor = torch.arange(12.0).reshape(4, 3)
    tensor[0, 0] = float("nan")
    return tensor


def repair(tensor: Any) -> Any:
    return guards.sanitize(tensor, 10.0)


def test_counting_inside_vmap_does_not_break_every_later_call() -> None:
    inside = torch.func.vmap(repair)(bad())
    assert inside.tolist() == repair(bad()).tolist()
    gradient = torch.func.grad(lambda tensor: repair(tensor).sum())(bad())
    assert gradient[0].tolist() == [0.0, 1.0, 1.0]
    assert guards.counts() == {"sanitize": 2}


def test_counting_on_meta_tensors_and_in_traces_does_not_break_every_later_call() -> None:
    repair(bad().to("meta"))
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        repair(torch.empty(3))
    torch.jit.trace(repair, bad())
    repair(bad())
    assert guards.counts()["sanitize"] >= 2


def test_sanitize_compiles_in_one_graph() -> None:
    compiled = torch.compile(repair, backend="eager", fullgraph=True)
    assert compiled(bad()).tolist() == repair(bad()).tolist()


def test_a_limit_beyond_the_type_is_no_error() -> None:
    half = guards.sanitize(bad().half(), 1e6, nan=-1e9)
    assert half[0].tolist() == [-65504.0, 1.0, 2.0]
    weight = nn.Parameter(torch.ones(2, dtype=torch.float16))
    guards.clamp_(weight, 1e6)
    assert weight.tolist() == [1.0, 1.0]


def test_counts_that_nobody_takes_do_not_pile_up() -> None:
    TALLY.watched = True
    for _ in range(3 * FRESH_MOST):
        guards.sanitize(bad())
    assert len(TALLY.fresh["sanitize"]) <= FRESH_MOST
    assert sum(int(count) for count in TALLY.take()["sanitize"]) == 3 * FRESH_MOST


def test_detach_takes_dicts_that_cannot_be_made_of_a_dict() -> None:
    state: Any = defaultdict(list, hidden=torch.ones(2, requires_grad=True))
    cut = guards.detach(state)
    assert not cut["hidden"].requires_grad
    assert cut.default_factory is list
    assert state["hidden"].requires_grad


@pytest.mark.parametrize("inner_steps", [2, 12])
@pytest.mark.parametrize("naming_s", [0.0, 0.01])
def test_short_lived_inner_optimizers_do_not_stop_the_clock(
    watched: Callable[..., Watched],
    inner_steps: int,
    naming_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reptile: the first to close an attempt is an inner optimizer that is soon gone. However slow
    it is to find names, the outer one is the clock once it has done more than any inner one."""
    named = discovery.names_in_frames

    def slowly(*given: Any) -> Any:
        time.sleep(naming_s)
        return named(*given)

    monkeypatch.setattr(discovery, "names_in_frames", slowly)
    run = watched().run
    model = nn.Linear(3, 3)
    outer = torch.optim.Adam(model.parameters())
    for _ in range(100):
        copied = copy.deepcopy(model)
        inner = torch.optim.SGD(copied.parameters(), 0.1)
        for _ in range(inner_steps):
            inner.zero_grad()
            copied(torch.ones(2, 3)).sum().backward()
            inner.step()
        for mine, moved in zip(model.parameters(), copied.parameters(), strict=True):
            mine.grad = mine.detach() - moved.detach()
        outer.step()
        outer.zero_grad()
    outer_number = run.observer.registry.find(outer).number
    assert run.observer.clock.main == outer_number
    assert run.observer.clock.counts[outer_number] == 100
    assert run.observer.clock.step >= 100 - 2 * inner_steps


class Sam(torch.optim.Optimizer):
    """The widely used one: a wrapper that shares the groups of the optimizer it holds."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"rho": 0.05, "lr": 0.1})
        self.base = torch.optim.SGD(self.param_groups, lr=0.1)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        """Climb, and clear the gradients."""
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["old"] = parameter.detach().clone()
            parameter.add_(parameter.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        """Go back and descend."""
        for parameter in self.param_groups[0]["params"]:
            parameter.data = self.state[parameter]["old"]
        self.base.step()
        self.zero_grad()


def test_the_ascent_of_sam_is_no_skip(watched: Callable[..., Watched]) -> None:
    seen = watched()
    model = nn.Linear(3, 3)
    optimizer = Sam(model.parameters())
    for _ in range(12):
        model(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.first_step()
        model(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.second_step()
    assert seen.run.observer.clock.step == 12
    applied = [
        v for key, of in seen.read().points.items() if key[0] == "update_applied" for v in of
    ]
    assert [value for _, value in applied] == [1.0] * 12


class PassesOn(torch.optim.Optimizer):
    """Like Accelerate's: holds another optimizer and never ran torch's `__init__`."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def step(self, closure: Any = None) -> Any:
        """Pass it on."""
        return self.optimizer.step(closure)


def test_skip_nonfinite_takes_an_optimizer_that_passes_calls_on() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    optimizer = PassesOn(torch.optim.SGD(model.parameters(), 0.1))
    with guards.skip_nonfinite(optimizer) as guard:
        (model(torch.ones(1, 2)) * float("nan")).sum().backward()
        optimizer.step()
    assert guard.skipped == 1
    assert torch.equal(model.weight, before)


def test_a_held_step_that_raised_keeps_nothing_alive() -> None:
    class Own(torch.optim.SGD):
        """Not one of torch's own: everything is copied."""

    for kind in (torch.optim.SGD, Own):
        weight = nn.Parameter(torch.ones(2))
        optimizer = kind([weight], 0.1)
        weight.grad = torch.ones(2)
        hold = Hold(optimizer)
        hold.begin()
        seen = weakref.ref(weight)
        del optimizer, weight
        gc.collect()
        assert seen() is None
        hold.end()
