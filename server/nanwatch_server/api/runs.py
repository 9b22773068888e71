"""Routes of runs: list and detail.

Here and in the other modules a long answer becomes JSON in the route's own thread: FastAPI would do
it in the event loop, which then stands still for everybody.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from nanwatch_server.api.errors import RunDep
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


@router.get("/api/runs/{run}")
@requires("view")
def run(run: RunDep, views: ViewsDep) -> Response:
    """Everything about one run but its points."""
    return JSONResponse(views.detail(run))
