"""Route of exports: a run as a file, streamed; every point bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from nanwatch_server.api.deps import problem
from nanwatch_server.api.errors import RunDep
from nanwatch_server.auth.gate import requires
from nanwatch_server.exporters.formats import MEDIA_TYPES, Export, ExportError
from nanwatch_server.store.ordered import moment

router = APIRouter()

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]+")


@router.get("/api/runs/{run}/export")
@requires("view")
def export(
    run: RunDep,
    request: Request,
    format_: Annotated[str, Query(alias="format", pattern="^(csv|jsonl|parquet)$")] = "csv",
) -> Response:
    """One moment of the run; points that arrive meanwhile are not in it."""
    try:
        made = Export(moment(request.app.state.store.readers), run.id, format_)
    except ExportError as error:
        return problem(422, "invalid", str(error))

    def pieces() -> Iterator[bytes]:
        with made:
            yield from made.pieces()

    name = f"{_UNSAFE.sub('_', run.name)}.{format_}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    if made.dropped:
        headers["X-Nanwatch-Dropped-Points"] = str(made.dropped)
    return StreamingResponse(pieces(), media_type=MEDIA_TYPES[format_], headers=headers)
