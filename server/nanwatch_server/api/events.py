"""Route of what happened in a run besides its points: marks, checkpoints, reports."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from nanwatch_server.api.deps import StoreDep
from nanwatch_server.api.errors import RunDep
from nanwatch_server.api.schemas import REPORTS, checkpoint_json, mark_json, stored_report
from nanwatch_server.auth.gate import requires

router = APIRouter()


@router.get("/api/runs/{run}/events")
@requires("view")
def events(run: RunDep, store: StoreDep) -> Response:
    """In order of arrival."""
    reports: dict[str, list[dict[str, Any]]] = {what: [] for what in REPORTS}
    for row in store.reports(run.id):
        reports[row["what"]].append(stored_report(row))
    found = {
        "marks": [mark_json(mark) for mark in store.marks(run.id)],
        "checkpoints": [checkpoint_json(saved) for saved in store.checkpoints(run.id)],
        "nonfinite": reports["nonfinite"],
        "forensics": reports["forensics"],
        "problems": reports["problem"],
    }
    return JSONResponse(found)
