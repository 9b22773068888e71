"""Route of what happened in a run besides its points: marks, checkpoints, reports."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from nanwatch.contract.frames import NonFinite, Problem
from nanwatch_server.api.deps import StoreDep
from nanwatch_server.api.errors import RunDep
from nanwatch_server.api.schemas import checkpoint_json, mark_json, report_json
from nanwatch_server.auth.gate import requires

router = APIRouter()


@router.get("/api/runs/{run}/events")
@requires("view")
def events(run: RunDep, store: StoreDep) -> Response:
    """In order of arrival."""
    reports: dict[str, list[dict[str, Any]]] = {"nonfinite": [], "problem": []}
    for row in store.reports(run.id):
        kind = NonFinite if row["what"] == "nonfinite" else Problem
        record = msgspec.msgpack.decode(row["data"], type=kind)
        reports[row["what"]].append(report_json(record, row["at"]))
    found = {
        "marks": [mark_json(mark) for mark in store.marks(run.id)],
        "checkpoints": [checkpoint_json(saved) for saved in store.checkpoints(run.id)],
        "nonfinite": reports["nonfinite"],
        "problems": reports["problem"],
    }
    return JSONResponse(found)
