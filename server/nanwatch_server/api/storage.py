"""Routes of storage: how much room runs take, and how long projects keep their points.

Deleting and pinning a run are in `runs`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from nanwatch_server.api.deps import ClockDep, PrincipalDep, StoreDep
from nanwatch_server.api.errors import RunDep
from nanwatch_server.api.views import ViewsDep
from nanwatch_server.auth.gate import requires
from nanwatch_server.store.sizes import Sizes

router = APIRouter()

LARGEST = 20
DAYS_MOST = 36_500.0

Project = Annotated[str, Query(min_length=1, max_length=300)]


class RetentionBody(BaseModel):
    """`days`: so long, null for ever. `default`: as the server says, whatever `days` is."""

    model_config = ConfigDict(strict=True, extra="forbid")
    days: float | None = Field(default=None, gt=0, le=DAYS_MOST, allow_inf_nan=False)
    default: bool = False


async def _sizes(request: Request) -> Sizes:
    return request.app.state.sizes


SizesDep = Annotated[Sizes, Depends(_sizes)]


@router.get("/api/storage")
@requires("view")
def storage(sizes: SizesDep, store: StoreDep, views: ViewsDep) -> Response:
    """The database, every project, and the runs that take most room."""
    found = sizes.overview()
    heavy = [(run, size) for id, size in sizes.largest(LARGEST) if (run := store.run(id))]
    summaries = views.summaries([run for run, _ in heavy])
    largest = [
        {name: one[name] for name in ("id", "name", "project", "status", "started_at")}
        | size._asdict()
        for one, (_, size) in zip(summaries, heavy, strict=True)
    ]
    return JSONResponse(found | {"largest": largest})


@router.get("/api/runs/{run}/storage")
@requires("view")
def of_run(run: RunDep, sizes: SizesDep) -> Response:
    """What would go with the run, whether it is pinned, and how long its project keeps points."""
    return JSONResponse(sizes.of_run(run.id, run.project))


@router.get("/api/retention")
@requires("view")
def preview(
    sizes: SizesDep,
    project: Project,
    days: Annotated[float | None, Query(gt=0, le=DAYS_MOST)] = None,
) -> Response:
    """How many runs of the project such a retention would concern."""
    return JSONResponse(sizes.preview(project, days))


@router.put("/api/retention")
@requires("admin")
def change(
    body: RetentionBody, store: StoreDep, who: PrincipalDep, clock: ClockDep, project: Project
) -> dict[str, Any]:
    """From the next hour on points that are older are dropped; summaries stay."""
    with store.write() as uow:
        if body.default:
            uow.clear_retention(project)
        else:
            uow.set_retention(project, body.days)
        said = "default" if body.default else "for ever" if body.days is None else body.days
        uow.audit(
            at=clock(),
            actor=who.actor,
            role=who.role,
            via=who.via,
            action="retention.change",
            target=project,
            detail={"days": str(said)},
        )
    return {
        "project": project,
        "days": None if body.default else body.days,
        "own": not body.default,
    }
