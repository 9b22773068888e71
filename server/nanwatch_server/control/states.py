"""The life of a command as one table, and the one function that moves it. Pure."""

from __future__ import annotations

from typing import Any

from nanwatch.contract.commands import TERMINAL
from nanwatch_server.domain.models import Command, Transition, replace

NEXT: dict[str, frozenset[str]] = {
    "queued": frozenset({"delivered", "expired", "cancelled", "superseded"}),
    "delivered": frozenset({"armed", "rejected", "failed", "expired", "cancelled", "superseded"}),
    # `expired` after arming: only the run, or a server that has not sent `go`, can say that.
    "armed": frozenset({"applied", "rejected", "failed", "expired", "unknown"}),
    "applied": frozenset({"verified"}),
    # Contact was lost while armed: only the run's own word settles it.
    "unknown": frozenset({"applied", "failed"}),
    **{state: frozenset() for state in TERMINAL},
}
"""What may follow each state. A state with nothing behind it is final."""

UNARMED = frozenset({"queued", "delivered"})
"""States in which the run has not been told to go: a command can still be taken back."""

IN_FLIGHT = UNARMED | {"armed"}


class IllegalTransition(RuntimeError):
    """A command was asked to move where the table does not lead."""


def moved(command: Command, state: str, at: float, detail: str = "", **facts: Any) -> Command:
    """The command one state on. Raises `IllegalTransition`; the command itself never changes."""
    allowed = NEXT[command.state]
    if state not in allowed:
        expected = ", ".join(sorted(allowed)) or "nothing: the state is final"
        raise IllegalTransition(
            f"command {command.id} is {command.state}: expected {expected}, got {state}"
        )
    step = Transition(state=state, at=at, detail=detail)
    return replace(command, state=state, transitions=(*command.transitions, step), **facts)
