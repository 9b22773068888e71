"""Routes of commands: send, list, cancel. What may be sent is decided in `control`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from nanwatch_server.api.deps import DeskDep, PrincipalDep, StoreDep, problem, refused
from nanwatch_server.api.schemas import number_text
from nanwatch_server.auth.gate import requires
from nanwatch_server.control.policy import Refused
from nanwatch_server.domain.models import Command

router = APIRouter()


class CommandBody(BaseModel):
    """What a person asks. Arguments are checked kind by kind in `control.policy`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: str
    args: dict[str, Any] = {}
    reason: str = ""
    incident_id: str = ""
    if_lr: str = Field(default="", max_length=40)
    """The learning rate that was on the page, as text; another one by now is refused as `stale`."""


@router.post("/api/runs/{run}/commands")
@requires("respond")
def send(
    run: str,
    body: CommandBody,
    desk: DeskDep,
    who: PrincipalDep,
    key: Annotated[str, Header(alias="Idempotency-Key")] = "",
) -> Response:
    """201 with the new command, 200 with the one this key already made."""
    about = body.model_dump(include={"reason", "incident_id", "if_lr"})
    try:
        command, fresh = desk.submit(who, run, body.kind, body.args, key=key, **about)
    except Refused as refusal:
        return refused(refusal)
    return JSONResponse(command_json(command), 201 if fresh else 200)


@router.get("/api/runs/{run}/commands")
@requires("view")
def of_run(run: str, store: StoreDep) -> Response:
    """Newest first."""
    if store.run(run) is None:
        return problem(404, "not_found", f"there is no run {run[:64]!r}")
    return JSONResponse({"commands": [command_json(one) for one in store.commands(run)]})


@router.post("/api/commands/{command_id}/cancel")
@requires("respond")
def cancel(command_id: str, desk: DeskDep, who: PrincipalDep) -> Response:
    """The cancelled command; 409 if the run was already told to go."""
    try:
        return JSONResponse(command_json(desk.cancel(who, command_id)))
    except Refused as refusal:
        return refused(refusal)


def command_json(command: Command) -> dict[str, Any]:
    """A command as the protocol shows it; learning rates are text."""
    return {
        "id": command.id,
        "run_id": command.run_id,
        "kind": command.kind,
        "args": command.args,
        "state": command.state,
        "actor": command.actor,
        "role": command.role,
        "reason": command.reason,
        "incident_id": command.incident_id,
        "created_at": command.created_at,
        "expires_at": command.expires_at,
        "applied_step": command.applied_step,
        "before": {name: number_text(value) for name, value in command.before.items()},
        "after": {name: number_text(value) for name, value in command.after.items()},
        "factor": number_text(command.factor),
        "message": command.message,
        "transitions": [
            {"state": step.state, "at": step.at, "detail": step.detail}
            for step in command.transitions
        ],
    }
