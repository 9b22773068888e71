"""What the integration tests share: commands as the server gives them, and comparing weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from nanwatch.contract.frames import Command, CommandResult, Go
from nanwatch.guard import GUARD, Guard
from sdk.watched import Watched

Watch = Callable[..., Watched]
Weights = dict[str, torch.Tensor]


def order(seen: Watched, kind: str, **args: Any) -> None:
    """Deliver and arm a command as the server would."""
    inbox = seen.run.inbox
    command = Command(id=f"{kind}-{args}", kind=kind, args=args, expires_in=60, actor="kim")
    inbox.receive(command)
    (answer,) = inbox.take_frames()
    inbox.receive(Go(id=command.id, nonce=answer.nonce))


def results(seen: Watched) -> list[CommandResult]:
    """What became of the commands."""
    return [r for r in seen.run.inbox.take_results() if isinstance(r, CommandResult)]


def weights(state: Mapping[str, torch.Tensor]) -> Weights:
    """A copy of a state dict, to be compared bit for bit."""
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def assert_same(left: Weights, right: Weights) -> None:
    """The very same bits, NaN included."""
    assert left.keys() == right.keys() and left
    for name in left:
        ours, theirs = (
            t.contiguous().reshape(-1).view(torch.uint8) for t in (left[name], right[name])
        )
        assert torch.equal(ours, theirs), name


def join(watched: Watch, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Watched:
    """A watched run that is the run of this process, as after `nanwatch.init`."""
    seen = watched(**options)
    monkeypatch.setattr("nanwatch.run._current", seen.run)
    return seen


def break_the_run(seen: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an integration asks of the run fails, and is not raised."""
    monkeypatch.setattr(Guard, "reraise", False)
    for name in ("log", "mark", "watch"):
        monkeypatch.setattr(seen.run, name, lambda *_, **__: 1 / 0)
    monkeypatch.setattr(seen.run.observer, "mark", lambda *_, **__: 1 / 0)


def broke_quietly(library: str) -> bool:
    """True if errors of that integration were counted; forgets them."""
    count = GUARD.counts.get(f"{library} integration:ZeroDivisionError", 0)
    GUARD.clear()
    return count > 0
