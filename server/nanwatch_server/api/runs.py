"""Routes of runs: list, detail, names of series, pin, deletion.

Here and in the other modules a long answer becomes JSON in the route's own thread: FastAPI would do
it in the event loop, which then stands still for everybody.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from nanwatch_server.api.deps import ClockDep, PrincipalDep, StoreDep, problem
from nanwatch_server.api.errors import RunDep
from nanwatch_server.api.schemas import series_json
from nanwatch_server.api.views import ViewsDep
from nanwatch_server.auth.gate import requires

router = APIRouter()


@router.get("/api/runs")
@requires("view")
def runs(
    views: ViewsDep,
    q: Annotated[str, Query(max_length=200)] = "",
    project: Annotated[str, Query(max_length=200)] = "",
    status: Annotated[str, Query(pattern="^(live|stalled|lost|ended)?$")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str, Query(pattern="^[0-9]{0,18}$")] = "",
) -> Response:
    """Newest first."""
    found, more = views.page(query=q, project=project, status=status, limit=limit, after=after)
    return JSONResponse({"runs": found, "next": more})


@router.get("/api/projects")
@requires("view")
def projects(store: StoreDep) -> Response:
    """Projects that have runs or limits of their own, by name."""
    return JSONResponse({"projects": store.projects()})


@router.get("/api/runs/{run}")
@requires("view")
def run(run: RunDep, views: ViewsDep) -> Response:
    """Everything about one run but its points."""
    return JSONResponse(views.detail(run))


@router.get("/api/runs/{run}/names")
@requires("view")
def names(
    run: RunDep,
    store: StoreDep,
    q: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> Response:
    """A page of the run's series, in the order in which they were declared."""
    found, more = store.series_page(run.id, query=q, limit=limit, after=after)
    return JSONResponse({"series": [series_json(one) for one in found], "next": more})


@router.put("/api/runs/{run}/pin")
@requires("control")
def pin(run: RunDep, store: StoreDep, who: PrincipalDep, clock: ClockDep) -> Response:
    """The run keeps every point, whatever retention says."""
    return _pinned(run.id, store, who, clock(), True)


@router.delete("/api/runs/{run}/pin")
@requires("control")
def unpin(run: RunDep, store: StoreDep, who: PrincipalDep, clock: ClockDep) -> Response:
    """Retention counts for the run again."""
    return _pinned(run.id, store, who, clock(), False)


@router.delete("/api/runs/{run}")
@requires("admin")
def delete(
    run: RunDep, views: ViewsDep, request: Request, who: PrincipalDep, force: bool = False
) -> Response:
    """Delete the run for good: it is off every list at once, its rows go in the background."""
    status = views.status(run.id)
    if status in ("live", "stalled") and not force:
        what = "stop the training first, or force it: what it still sends is refused then"
        return problem(409, "live", f"run {run.name} is {status}: {what}")
    by = {"actor": who.actor, "role": who.role, "via": who.via}
    request.app.state.remove_run(run.id, by)
    return JSONResponse({"id": run.id, "deleted": True})


def _pinned(run_id: str, store: StoreDep, who: PrincipalDep, now: float, pinned: bool) -> Response:
    with store.write() as uow:
        uow.pin(run_id, now if pinned else None)
        action = "run.pin" if pinned else "run.unpin"
        uow.audit(at=now, actor=who.actor, role=who.role, via=who.via, action=action, run_id=run_id)
    return JSONResponse({"id": run_id, "pinned": pinned})
