"""Route of the audit: who did what, newest first."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from nanwatch_server.api.deps import StoreDep
from nanwatch_server.auth.gate import requires

router = APIRouter()

_ID_MAX = 2**63 - 1


@router.get("/api/audit")
@requires("view")
def rows(
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    run: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[int, Query(ge=0, le=_ID_MAX)] = 0,
) -> Response:
    """Rows older than the row `after`, and where the next page begins."""
    found = store.audit_rows(run_id=run, limit=limit, after=after)
    more = found[-1]["id"] if len(found) == limit else None
    return JSONResponse({"rows": found, "next": more})
