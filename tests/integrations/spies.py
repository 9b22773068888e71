"""What the integration tests share: commands as the server gives them, and comparing weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from nanwatch.contract.frames import Command, CommandResult, Go
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
        ours, theirs = left[name].contiguous(), right[name].contiguous()
        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8)), name
