"""Writes commands: every change of state and its audit row in one transaction.

Who decides that a command moves is the desk; whether it may is the table in `states`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nanwatch_server.control.states import moved
from nanwatch_server.domain.models import Command, Principal, Transition
from nanwatch_server.domain.ports import UnitOfWork


@dataclass(frozen=True, slots=True)
class Actor:
    """Who caused a change, as the audit names it."""

    name: str
    role: str
    via: str


RUN = Actor("run", "ingest", "system")
SERVER = Actor("server", "", "system")


def person(principal: Principal) -> Actor:
    """The one who asked."""
    return Actor(principal.actor, principal.role, principal.via)


def drafted(
    who: Principal,
    run_id: str,
    kind: str,
    args: Mapping[str, Any],
    *,
    now: float,
    ttl_s: float,
    epoch: int,
    key: str,
    reason: str,
    incident_id: str,
) -> Command:
    """A new command, not written yet."""
    return Command(
        id=uuid.uuid4().hex,
        run_id=run_id,
        kind=kind,
        args=dict(args),
        state="queued",
        actor=who.actor,
        role=who.role,
        created_at=now,
        expires_at=now + ttl_s,
        transitions=(Transition(state="queued", at=now),),
        epoch=epoch,
        key=key,
        reason=reason,
        incident_id=incident_id,
    )


def move(
    uow: UnitOfWork,
    command: Command,
    state: str,
    at: float,
    by: Actor,
    detail: str = "",
    **facts: Any,
) -> Command:
    """One transition. Raises `IllegalTransition`."""
    changed = moved(command, state, at, detail, **facts)
    uow.put_command(changed)
    record(uow, changed, at, by, state, {"from": command.state, "detail": detail})
    return changed


def record(
    uow: UnitOfWork, command: Command, at: float, by: Actor, event: str, more: dict[str, Any]
) -> None:
    """An audit row about the command as it is now. Numbers that may be odd travel as text."""
    detail = {
        "kind": command.kind,
        "args": {name: _text(value) for name, value in command.args.items()},
        "reason": command.reason,
        "incident_id": command.incident_id,
        "step": command.applied_step,
        "before": {name: repr(value) for name, value in command.before.items()},
        "after": {name: repr(value) for name, value in command.after.items()},
        **more,
    }
    uow.audit(
        at=at,
        actor=by.name,
        role=by.role,
        via=by.via,
        action=f"command.{event}",
        run_id=command.run_id,
        target=command.id,
        detail={name: value for name, value in detail.items() if value not in ("", None, {})},
    )


def _text(value: Any) -> Any:
    return value if isinstance(value, str | bool) else repr(value)
