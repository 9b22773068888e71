"""Routes of incidents: list, look, acknowledge, snooze, resolve."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from nanwatch_server.api.deps import ClockDep, PrincipalDep, StoreDep, problem
from nanwatch_server.api.errors import NotFound, RunDep
from nanwatch_server.api.views import Views, ViewsDep
from nanwatch_server.auth.gate import requires
from nanwatch_server.domain.models import Incident, Principal
from nanwatch_server.domain.ports import UnitOfWork
from nanwatch_server.incidents import lifecycle
from nanwatch_server.pipeline import Pipeline

router = APIRouter()


class SnoozeBody(BaseModel):
    """How long to be quiet."""

    model_config = ConfigDict(strict=True, extra="forbid")

    seconds: int | None = Field(default=None, ge=1, le=30 * 86_400)
    until_worse: bool = False


class Changes:
    """Changes an incident and writes who did it."""

    def __init__(self, pipeline: Pipeline, views: Views, clock: Callable[[], float]) -> None:
        self._pipeline, self._views, self._clock = pipeline, views, clock

    def change(
        self, who: Principal, action: str, incident_id: str, edit: Callable[[Incident], Incident]
    ) -> dict[str, Any]:
        """The incident afterwards."""

        def note(uow: UnitOfWork, changed: Incident) -> None:
            uow.audit(
                at=self._clock(),
                actor=who.actor,
                role=who.role,
                via=who.via,
                action=f"incident.{action}",
                run_id=changed.run_id,
                target=changed.id,
            )

        changed = self._pipeline.change(incident_id, edit, note)
        if changed is None:
            raise NotFound(f"there is no incident {incident_id[:64]!r}")
        return self._views.incident(changed)


async def _changes(request: Request, views: ViewsDep, clock: ClockDep) -> Changes:
    return Changes(request.app.state.pipeline, views, clock)


ChangesDep = Annotated[Changes, Depends(_changes)]


@router.get("/api/runs/{run}/incidents")
@requires("view")
def of_run(run: RunDep, store: StoreDep, views: ViewsDep) -> Response:
    """Newest first."""
    found = store.incidents(run_id=run.id)
    return JSONResponse({"incidents": [views.incident(one) for one in found]})


@router.get("/api/incidents")
@requires("view")
def incidents(
    store: StoreDep, views: ViewsDep, state: Annotated[str, Query(pattern="^(open|all)$")] = "open"
) -> Response:
    """Of all runs, newest first."""
    found = store.incidents(open_only=state == "open")
    return JSONResponse({"incidents": [views.incident(one) for one in found]})


@router.get("/api/incidents/{incident}")
@requires("view")
def incident(incident: str, store: StoreDep, views: ViewsDep) -> dict[str, Any]:
    """One incident."""
    found = store.incident(incident)
    if found is None:
        raise NotFound(f"there is no incident {incident[:64]!r}")
    return views.incident(found)


@router.post("/api/incidents/{incident}/acknowledge")
@requires("respond")
def acknowledge(
    incident: str, changes: ChangesDep, who: PrincipalDep, clock: ClockDep
) -> dict[str, Any]:
    """Someone has seen it."""
    edit = partial(lifecycle.acknowledge, actor=who.actor, now=clock())
    return changes.change(who, "acknowledge", incident, edit)


@router.post("/api/incidents/{incident}/resolve")
@requires("respond")
def resolve(
    incident: str, changes: ChangesDep, who: PrincipalDep, clock: ClockDep
) -> dict[str, Any]:
    """A person says it is over."""

    def edit(known: Incident) -> Incident:
        return lifecycle.resolve(known, known.last_step, clock())

    return changes.change(who, "resolve", incident, edit)


@router.post("/api/incidents/{incident}/snooze")
@requires("respond")
def snooze(
    incident: str, body: SnoozeBody, changes: ChangesDep, who: PrincipalDep, clock: ClockDep
) -> Response:
    """Quiet for a time, or until it gets worse."""
    if body.until_worse == (body.seconds is not None):
        return problem(422, "invalid", "expected either seconds or until_worse: true")
    until = math.inf if body.seconds is None else clock() + body.seconds
    edit = partial(lifecycle.snooze, until=until, now=clock())
    return JSONResponse(changes.change(who, "snooze", incident, edit))
