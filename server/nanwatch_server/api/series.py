"""Route of points: any series, any range, at most as many buckets as asked, one binary frame.

A page asks here most often and wants it fast: the run is not read from the database where its
series are known.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response

from nanwatch.contract.limits import STEP_MAX
from nanwatch_server.api.deps import StoreDep, problem
from nanwatch_server.api.errors import the_run
from nanwatch_server.api.vitals import Vitals
from nanwatch_server.auth.gate import requires
from nanwatch_server.live.frames import FrameWriter
from nanwatch_server.store.query import Answer
from nanwatch_server.store.tail import Tail

router = APIRouter()

SERIES_MAX = 256
ROWS_MAX = 1 << 18
"""Points or buckets of one answer, over all its series (24 MiB of buckets)."""
Step = Annotated[int | None, Query(ge=0, le=STEP_MAX)]


async def _tail(request: Request) -> Tail:
    return request.app.state.tail


async def _vitals(request: Request) -> Vitals:
    return request.app.state.vitals


@router.get("/api/runs/{run}/series")
@requires("view")
def series(
    run: str,
    store: StoreDep,
    tail: Annotated[Tail, Depends(_tail)],
    vitals: Annotated[Vitals, Depends(_vitals)],
    ids: Annotated[str, Query(pattern="^[0-9]{1,15}(,[0-9]{1,15})*$", max_length=4096)],
    x0: Step = None,
    x1: Step = None,
    buckets: Annotated[int, Query(ge=10, le=20_000)] = 1000,
) -> Response:
    """The `series` frame."""
    wanted = list(dict.fromkeys(int(one) for one in ids.split(",")))
    known = vitals.series_ids(run)
    if not known:
        the_run(run, store)  # or not found
    unknown = set(wanted) - known
    if unknown or len(wanted) > SERIES_MAX or (x0 or 0) > (STEP_MAX if x1 is None else x1):
        what = f"expected at most {SERIES_MAX} series of this run and x0 ≤ x1"
        return problem(422, "invalid", f"{what}; unknown: {sorted(unknown)[:5]}")
    buckets = min(buckets, ROWS_MAX // len(wanted))
    answers = tail.query_many(run, wanted, x0, x1, buckets)
    frame = series_frame(run, answers, x0, x1)
    return Response(frame, media_type="application/octet-stream")


def series_frame(run_id: str, answers: dict[int, Answer], x0: int | None, x1: int | None) -> bytes:
    """The frame of `docs/protocol.md`; x0 and x1 say the range that was looked at."""
    frame = FrameWriter("series")
    entries, low, high = [], [], []
    for series_id, answer in answers.items():
        columns: dict[str, Any] = answer.buckets or {}
        if answer.raw is not None:
            columns = answer.raw._asdict()
        first, last = ("steps", "steps") if answer.raw else ("first_step", "last_step")
        n = len(columns[first])
        if n:
            low.append(float(np.min(columns[first])))
            high.append(float(np.max(columns[last])))
        entries.append(
            ({"dropped": True} if answer.dropped else {})
            | {"id": series_id, "mode": "raw" if answer.raw is not None else "buckets", "n": n}
            | {name: frame.add(column) for name, column in columns.items()}
        )
    return frame.finish(
        run=run_id,
        x0=x0 if x0 is not None else int(min(low, default=0)),
        x1=x1 if x1 is not None else int(max(high, default=0)),
        series=entries,
    )
