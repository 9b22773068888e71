"""Granted commands on real trainings: applied at the close of an attempt, however it closes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nanwatch
from nanwatch.contract.frames import CheckpointSaved, Command, CommandResult, Go
from nanwatch.control.learning_rate import factor_of
from sdk.watched import Watched

Watch = Callable[..., Watched]


def order(seen: Watched, kind: str, **args: Any) -> None:
    """Deliver and arm a command as the server would."""
    inbox = seen.run.inbox
    command = Command(id=f"{kind}-{args}", kind=kind, args=args, expires_in=60, actor="kim")
    inbox.receive(command)
    (answer,) = inbox.take_frames()
    inbox.receive(Go(id=command.id, nonce=answer.nonce))


def result(seen: Watched) -> CommandResult:
    (found,) = [r for r in seen.run.inbox.take_results() if isinstance(r, CommandResult)]
    return found


def step(model: nn.Module, optimizer: Any, skip: bool = False) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).square().mean().backward()
    if not skip:
        optimizer.step()


def test_lower_the_rate_at_the_next_attempt(watched: Watch) -> None:
    seen = watched()
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step(model, optimizer)
    order(seen, "scale_lr", factor=0.1)
    step(model, optimizer)
    step(model, optimizer)
    found = result(seen)
    assert (found.state, found.step, found.before, found.factor) == ("applied", 2, {"": 0.1}, 0.1)
    assert found.after[""] == pytest.approx(0.01)
    assert seen.read().values("lr") == pytest.approx([0.1, 0.1, 0.01])
    assert seen.values("lr_scheduled") == [0.1] * 3
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_set_the_rate_of_one_scope(watched: Watch) -> None:
    seen = watched()
    left, right = nn.Linear(3, 1), nn.Linear(3, 1)
    seen.run.watch(left=left, right=right)
    left_optimizer = torch.optim.SGD(left.parameters(), 0.1)
    right_optimizer = torch.optim.SGD(right.parameters(), 0.2)
    for _ in range(2):
        step(left, left_optimizer)
        step(right, right_optimizer)
    order(seen, "set_lr", lr=0.05, scope="right")
    step(left, left_optimizer)
    step(right, right_optimizer)
    assert result(seen).after == {"right": pytest.approx(0.05)}
    assert factor_of(left_optimizer) == 1.0 and factor_of(right_optimizer) == pytest.approx(0.25)


def test_the_next_fold_keeps_the_rate_that_was_asked_for(watched: Watch) -> None:
    seen = watched()
    for fold in range(3):
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for n in range(60):
            if (fold, n) == (0, 30):
                order(seen, "scale_lr", factor=0.1)
            step(model, optimizer)
    assert result(seen).state == "applied"
    rates = [value for _, value in sorted(seen.read().series("lr"))]
    assert rates == pytest.approx([0.1] * 31 + [0.01] * 149)


def test_out_of_bounds_is_refused_in_the_process_itself(watched: Watch) -> None:
    seen = watched(control=nanwatch.Control(lr=(0.05, 0.2)))
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step(model, optimizer)
    # Armed while the rate was fine, then the schedule moves: the last check is at the apply.
    order(seen, "scale_lr", factor=0.6)
    optimizer.param_groups[0]["lr"] = 0.06
    step(model, optimizer)
    found = result(seen)
    assert found.state == "rejected" and "the run allows 0.05 to 0.2" in found.message
    assert factor_of(optimizer) == 1.0


def test_checkpoint_can_be_loaded_and_is_described(watched: Watch, tmp_path: Path) -> None:
    seen = watched()
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    step(model, optimizer)
    order(seen, "checkpoint")
    step(model, optimizer)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    scheduler.step()
    records = seen.run.inbox.take_results()
    (applied,) = [r for r in records if isinstance(r, CommandResult)]
    (saved,) = [r for r in records if isinstance(r, CheckpointSaved)]
    assert applied.state == "applied" and saved.step == applied.step == 2
    state = torch.load(saved.path, weights_only=True)
    assert saved.bytes == Path(saved.path).stat().st_size
    assert state["step"] == 2 and "ExponentialLR" in str(state["others"].keys())
    (weights,) = [m for m in state["modules"].values() if m.keys() == expected.keys()]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert len(state["optimizers"]["optimizer"]["state"]) == 6


@pytest.mark.parametrize("skip", [False, True])
def test_stop_ends_the_loop_however_attempts_close(watched: Watch, skip: bool) -> None:
    seen = watched()
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    step(model, optimizer)
    order(seen, "stop", checkpoint=True)
    done = 0
    with pytest.raises(nanwatch.StopTraining, match="asked by kim"):
        for _ in range(5):
            try:
                step(model, optimizer, skip)
                done += 1
            except Exception:
                pytest.fail("a handler for bad batches must not swallow the stop")
    assert done <= 1
    records = seen.run.inbox.take_results()
    assert [r.state for r in records if isinstance(r, CommandResult)] == ["applied"]
    assert len([r for r in records if isinstance(r, CheckpointSaved)]) == 1


def test_without_permission_there_is_nothing_to_command(watched: Watch) -> None:
    seen = watched(control=None)
    seen.run.inbox.receive(Command(id="c", kind="stop", args={}, expires_in=60))
    assert result(seen).state == "rejected"
