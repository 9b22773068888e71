"""Learning-rate factors against schedules, shared tensors, interrupted steps and late groups.

Each case once broke the promise that a factor stays within its bounds and never outlives its step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

import nanwatch
from nanwatch.contract.frames import Command, Go
from nanwatch.control.learning_rate import KEY, factor_of, set_factor
from sdk.watched import Watched

Watch = Callable[..., Watched]


def order(seen: Watched, kind: str, **args: Any) -> None:
    """Deliver and arm a command as the server would."""
    inbox = seen.run.inbox
    inbox.receive(Command(id=f"{kind}-{args}", kind=kind, args=args, expires_in=60, actor="kim"))
    (answer,) = inbox.take_frames()
    inbox.receive(Go(id=answer.id, nonce=answer.nonce))


def rates_used(optimizer: Any) -> list[list[float]]:
    """Filled with the rates of all groups as each step's arithmetic finds them."""
    used: list[list[float]] = []
    optimizer.register_step_pre_hook(
        lambda owner, args, kwargs: used.append([float(g["lr"]) for g in owner.param_groups])
    )
    return used


def step(optimizer: Any, *models: nn.Module) -> None:
    optimizer.zero_grad()
    torch.stack([m(torch.ones(2, 3)).square().mean() for m in models]).sum().backward()
    optimizer.step()


def test_a_rate_set_during_warm_up_stays_within_its_bounds_at_the_top(watched: Watch) -> None:
    seen = watched(control=nanwatch.Control(lr=(1e-7, 1e-2)))
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda n: min(1.0, 1e-5 + n / 20))
    used = rates_used(optimizer)
    order(seen, "set_lr", lr=1e-3)
    for _ in range(30):
        step(optimizer, model)
        scheduler.step()
    # Asked for at a scheduled 1e-8: without the bound the factor 100,000 would make it 100.
    assert factor_of(optimizer) == pytest.approx(1e5)
    assert used[0] == [pytest.approx(1e-8)]
    assert max(rate for (rate,) in used) <= 1e-2 * (1 + 1e-9)
    assert used[-1] == [pytest.approx(1e-2)]
    assert seen.read().values("lr") == pytest.approx([rate for (rate,) in used])
    assert seen.values("lr_scheduled")[-1] == pytest.approx(1e-3)


def test_a_lowered_rate_does_not_fall_through_the_floor_with_the_schedule(watched: Watch) -> None:
    seen = watched(control=nanwatch.Control(lr=(1e-3, 1.0)))
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    used = rates_used(optimizer)
    order(seen, "scale_lr", factor=0.1)
    scheduled = []
    for _ in range(12):
        scheduled.append(optimizer.param_groups[0]["lr"])
        step(optimizer, model)
        scheduler.step()
    # Below the floor only where the script itself asks for less.
    expected = [scheduled[0], *(min(plan, max(0.1 * plan, 1e-3)) for plan in scheduled[1:])]
    assert [rate for (rate,) in used] == pytest.approx(expected)
    assert scheduled[-1] < 1e-3 < expected[1]


def test_one_tensor_in_two_groups_is_scaled_once(watched: Watch) -> None:
    seen = watched()
    left, right = nn.Linear(3, 1), nn.Linear(3, 1)
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = torch.optim.SGD(
        [{"params": left.parameters()}, {"params": right.parameters()}], lr=rate
    )
    used = rates_used(optimizer)
    for n in range(6):
        if n == 1:
            order(seen, "scale_lr", factor=0.5)
        step(optimizer, left, right)
        assert rate.item() == 0.1, "the script's own tensor must come back after every step"
    assert used == [[0.1, 0.1]] * 2 + [[0.05, 0.05]] * 4
    assert seen.read().values("lr") == [0.1] * 2 + [0.05] * 4
    assert seen.values("lr_scheduled") == [0.1] * 6


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_scheduler_stepped_in_a_post_hook_goes_on_as_planned(
    watched: Watch, as_tensor: bool
) -> None:
    def train(factor: float) -> tuple[list[list[float]], list[float]]:
        model = nn.Linear(3, 1)
        rate: Any = torch.tensor(0.1, dtype=torch.float64) if as_tensor else 0.1
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.9)
        optimizer.register_step_post_hook(lambda *_: scheduler.step())
        used, plan = rates_used(optimizer), []
        set_factor(optimizer, factor)
        for _ in range(8):
            step(optimizer, model)
            plan.append(float(optimizer.param_groups[0]["lr"]))
        return used, plan

    watched()
    used, plan = train(1.0)
    scaled_used, scaled_plan = train(0.5)
    assert plan == pytest.approx([0.1 * 0.9 ** (n + 1) for n in range(8)])
    assert scaled_plan == pytest.approx(plan)
    assert [rate for (rate,) in scaled_used] == pytest.approx([0.5 * rate for (rate,) in used])


@pytest.mark.parametrize("as_tensor", [False, True])
def test_finish_after_ctrl_c_inside_a_step_gives_the_rate_back(as_tensor: bool) -> None:
    model = nn.Linear(3, 1)
    rate: Any = torch.tensor(0.1, dtype=torch.float64) if as_tensor else 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    set_factor(optimizer, 0.5)
    used = rates_used(optimizer)

    def interrupt(*_: Any) -> None:
        if len(used) == 3:
            raise KeyboardInterrupt

    optimizer.register_step_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt), nanwatch.init("interrupted", mode="offline"):
        while True:
            step(optimizer, model)
    assert used == [[0.05]] * 3
    assert float(optimizer.param_groups[0]["lr"]) == 0.1
    saved = optimizer.state_dict()["param_groups"][0]
    assert (float(saved["lr"]), saved[KEY]) == (0.1, 0.5)


def test_a_group_added_after_a_command_runs_under_the_same_factor(watched: Watch) -> None:
    seen = watched()
    body, head = nn.Linear(3, 1), nn.Linear(3, 1)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    used = rates_used(optimizer)
    for n in range(6):
        if n == 1:
            order(seen, "scale_lr", factor=0.1)
        if n == 3:
            optimizer.add_param_group({"params": body.parameters(), "lr": 0.2})
        if n == 5:
            order(seen, "scale_lr", factor=10.0)
        step(optimizer, head, body)
    full, reduced = [0.1], [pytest.approx(0.01)]
    assert used == [full, full, reduced, *[[*reduced, pytest.approx(0.02)]] * 3]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    step(optimizer, head, body)
    assert used[-1] == pytest.approx([0.1, 0.2]), "undone, it is undone for every group"
