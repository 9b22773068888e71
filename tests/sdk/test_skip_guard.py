"""`guard="skip"`: a poisoned update changes nothing, whatever the optimizer, scaler or clipping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nanwatch.contract.frames import Forensics
from nanwatch.control.holding import Hold, nonfinite_flag
from nanwatch.control.skip_guard import CHECKPOINTS_MOST
from nanwatch.probes.attempts import APPLIED, HELD, SCALER_SKIPPED
from sdk.watched import Watched

Watch = Callable[..., Watched]
Make = Callable[[list[nn.Parameter]], Any]

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "sgd-fused": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 0.1),
    "adam-foreach": lambda p: torch.optim.Adam(p, 0.1, foreach=True, amsgrad=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, 0.1, fused=True),
    "adam-tensor-lr": lambda p: torch.optim.Adam(p, torch.tensor(0.1), foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.1, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.1),
    "adafactor": lambda p: torch.optim.Adafactor(p, 0.1),
    "foreign": lambda p: Foreign(p, 0.1),
}


class Foreign(torch.optim.Optimizer):
    """An optimizer that is not torch's and breaks on a missing gradient."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            group["steps"] += 1
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["mean"] = torch.zeros_like(p)
                    state["count"] = 0
                state["count"] += 1
                state["mean"].mul_(0.9).add_(p.grad.data)
                p.sub_(group["lr"] * state["mean"])


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def everything(model: nn.Module, optimizer: Any) -> Any:
    return copy.deepcopy((model.state_dict(), optimizer.state_dict()))


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def gradient_step(model: nn.Module, optimizer: Any, bad: bool, clip: bool, scaler: Any) -> None:
    optimizer.zero_grad()
    loss = model(torch.ones(3, 4)).square().mean()
    scaler.scale(loss).backward() if scaler else loss.backward()
    if bad:
        next(model.parameters()).grad[0, 0] = math.nan
    if scaler and clip:
        scaler.unscale_(optimizer)
    if clip:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()


@pytest.mark.parametrize("clip", [False, True], ids=["", "clip"])
@pytest.mark.parametrize("scaled", [False, True], ids=["", "scaler"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_poisoned_update_changes_nothing(
    watched: Watch, name: str, scaled: bool, clip: bool
) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if scaled else None
    for n in range(8):
        before = everything(model, optimizer)
        bad = n in (3, 4, 6)
        gradient_step(model, optimizer, bad, clip, scaler)
        assert same(before, everything(model, optimizer)) == bad
        assert next(model.parameters()).grad is not None
    outcome = SCALER_SKIPPED if scaled else HELD
    expected = [APPLIED] * 3 + [outcome] * 2 + [APPLIED, outcome, APPLIED]
    assert seen.read().values("skip_reason") == expected
    assert seen.values("update_applied") == [float(o == APPLIED) for o in expected]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_update_may_be_poisoned_too(watched: Watch, name: str) -> None:
    seen = watched(guard="skip")
    plain, held = net(), net()
    optimizer = OPTIMIZERS[name](list(held.parameters()))
    gradient_step(held, optimizer, True, False, None)
    assert same(plain.state_dict(), held.state_dict())
    other = OPTIMIZERS[name](list(plain.parameters()))
    for model, opt in ((held, optimizer), (plain, other)):
        gradient_step(model, opt, False, False, None)
    assert same(plain.state_dict(), held.state_dict())
    assert seen.run.observer.skip_guard is not None


@pytest.mark.parametrize("name", ["adamw-fused", "sgd-fused"])
def test_fused_optimizers_decide_on_the_device(watched: Watch, name: str) -> None:
    seen = watched(guard="skip")
    guard = seen.run.observer.skip_guard
    assert guard is not None
    guard.devices_at_hand = ()  # as on an accelerator: nothing may be read
    guard._known_finite = lambda known, gradients: False  # type: ignore[method-assign]
    model = net()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    for n in range(8):
        before = everything(model, optimizer)
        gradient_step(model, optimizer, n in (0, 3, 4), False, None)
        if n:
            assert same(before, everything(model, optimizer)) == (n in (3, 4))
        assert not hasattr(optimizer, "found_inf")
    assert all(torch.isfinite(p).all() for p in model.parameters())
    expected = [HELD, APPLIED, APPLIED, HELD, HELD, APPLIED, APPLIED, APPLIED]
    assert seen.read().values("skip_reason") == expected


def test_good_updates_are_bit_identical(watched: Watch) -> None:
    seen = watched(guard="skip")
    watched_model = net()
    optimizer = torch.optim.AdamW(watched_model.parameters(), 0.01)
    for _ in range(20):
        gradient_step(watched_model, optimizer, False, True, None)
    final = watched_model.state_dict()
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    seen.run.observer.enabled = False
    seen.run.hooks.remove()
    for _ in range(20):
        gradient_step(model, optimizer, False, True, None)
    assert same(final, model.state_dict())


def test_half_precision_and_sparse_gradients(watched: Watch) -> None:
    seen = watched(guard="skip")
    table = nn.Embedding(10, 4, sparse=True)
    head = nn.Linear(4, 1).to(torch.bfloat16)
    sparse = torch.optim.SparseAdam(table.parameters(), 0.1)
    dense = torch.optim.Adam(head.parameters(), 0.1)
    for n in range(4):
        before = copy.deepcopy((table.state_dict(), head.state_dict(), dense.state_dict()))
        sparse.zero_grad()
        dense.zero_grad()
        factor = math.inf if n == 2 else 1.0
        (head(table(torch.tensor([1, 2])).bfloat16()).sum() * factor).backward()
        sparse.step()
        dense.step()
        after = (table.state_dict(), head.state_dict(), dense.state_dict())
        assert same(before, after) == (n == 2)
    assert all(torch.isfinite(p).all() for p in [*table.parameters(), *head.parameters()])
    outcomes = [v for key, v in seen.read().points.items() if key[0] == "skip_reason"]
    assert [[value for _, value in found] for found in outcomes] == [[0, 0, HELD, 0]] * 2


def test_a_huge_but_finite_gradient_is_no_reason(watched: Watch) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-35)
    model(torch.ones(3, 4)).sum().mul(1e30).backward()  # its L2 norm overflows in float32
    optimizer.step()
    assert seen.read().values("skip_reason") == [APPLIED]


def test_gradients_that_the_script_cleans_are_used(watched: Watch) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = copy.deepcopy(model.state_dict())
    model(torch.ones(3, 4)).sum().backward()
    next(model.parameters()).grad[0, 0] = math.nan
    nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    for p in model.parameters():
        p.grad.nan_to_num_(0.5)
    optimizer.step()
    assert not same(before, model.state_dict())
    assert seen.read().values("skip_reason") == [APPLIED]


def test_closures_of_ordinary_optimizers_are_looked_at(watched: Watch) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for n in range(5):

        def closure(bad: bool = n == 2) -> Any:
            optimizer.zero_grad()
            loss = model(torch.ones(3, 4)).square().mean() * (math.nan if bad else 1.0)
            loss.backward()
            return loss

        before = everything(model, optimizer)
        assert math.isnan(optimizer.step(closure).item()) == (n == 2)
        assert same(before, everything(model, optimizer)) == (n == 2)
    assert seen.read().values("skip_reason") == [0, 0, HELD, 0, 0]


def test_lbfgs_is_left_alone_and_said_so(watched: Watch) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.1, max_iter=4)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert seen.read().values("skip_reason") == [APPLIED] * 3
    (mark,) = [m for m in seen.marks if m.what == "coverage"]
    assert "LBFGS steps by a closure" in mark.data["guard"]


def test_checkpoints_from_before_the_poisoned_update(watched: Watch) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    good: list[Any] = []
    for n in range(24):
        bad = n % 4 in (2, 3)
        if n % 4 == 2:
            good.append(copy.deepcopy(model.state_dict()))
        gradient_step(model, optimizer, bad, False, None)
    guard = seen.run.observer.skip_guard
    assert guard is not None and len(guard.saved) == CHECKPOINTS_MOST
    for path, expected in zip(guard.saved, good, strict=False):
        assert isinstance(path, Path) and path.name.startswith("emergency-")
        state = torch.load(path, weights_only=True)
        assert any(
            same(m, expected) for m in state["modules"].values() if m.keys() == expected.keys()
        )


def test_no_checkpoint_of_weights_that_are_bad_already(watched: Watch) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    gradient_step(model, optimizer, False, False, None)
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan  # type: ignore[index]
    gradient_step(model, optimizer, False, False, None)
    guard = seen.run.observer.skip_guard
    assert guard is not None and guard.saved == []
    assert seen.read().values("skip_reason") == [APPLIED, HELD]


def test_a_step_that_raised_while_held_keeps_no_gradients() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.ones(3, 4)).sum().backward()
    old = [p.grad for p in model.parameters()]
    hold = Hold(optimizer)
    hold.begin()
    assert all(p.grad is None for p in model.parameters())
    fresh = torch.ones_like(model[0].weight)  # type: ignore[arg-type]
    model[0].weight.grad = fresh  # type: ignore[union-attr]
    hold.end()
    grads = [p.grad for p in model.parameters()]
    assert grads[0] is fresh and grads[1:] == old[1:]


def test_the_flag_counts_every_kind_of_tensor() -> None:
    good = [torch.ones(2), torch.ones(2, dtype=torch.float64), torch.zeros(0)]
    assert nonfinite_flag(good).item() == 0.0
    for bad in (
        torch.tensor([1.0, math.inf]).half(),
        torch.tensor([complex(0.0, math.nan)]),
        torch.tensor([[0.0, math.nan]]).to_sparse(),
    ):
        assert nonfinite_flag([*good, bad]).item() == 1.0
    assert nonfinite_flag([torch.zeros(0)]) is None


def test_a_guard_that_holds_for_ever_says_so(
    watched: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(101):
        gradient_step(model, optimizer, True, False, None)
    held = [m.data["held"] for m in seen.read().marks if m.what == "note"]
    assert held == ["50", "100"] and "held 100 updates in a row" in caplog.text


def test_what_was_held_is_reported_with_its_checkpoint(watched: Watch) -> None:
    seen = watched(guard="skip")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for n in range(12):
        gradient_step(model, optimizer, n == 10, False, None)
    found = [r for r in seen.run.recorder.drain(final=True) if isinstance(r, Forensics)]
    assert found[0].trigger == "gradient" and found[0].first_backward == "0"
    guard = seen.run.observer.skip_guard
    assert guard is not None and found[0].checkpoint_path == str(guard.saved[0])
