"""Goes the way of a chart several times before someone waits for one. `app` calls it at the start,
on a thread of the kind that answers requests.

What is read is thrown away: caches stay empty, but the interpreter has seen the code (3.11 runs it
faster from the eighth time on), statements are prepared and the thread's heap has its pages.
"""

from __future__ import annotations

import numpy as np

from nanwatch_server.api.series import series_frame
from nanwatch_server.store.history import Columns, History
from nanwatch_server.store.pyramid import merged, pack_summary, summary_of, unpack_summary
from nanwatch_server.store.query import Newest, answer
from nanwatch_server.store.sql import SqlStore

CHARTS = 8
"""Charts that are rehearsed."""
RUNS = 4
"""Newest runs that are looked at for one."""
BUCKETS = 2_000
WIDE_PARTS, WIDE_BUCKETS = 8, 1_024
"""Summaries of a chart that is as wide as charts are, and buckets in each."""
# the journal is left alone: after a crash it may hold minutes of points
_NOTHING = Newest(Columns(np.empty(0, np.int64), np.empty(0), np.empty(0)), True)


def rehearse(store: SqlStore) -> None:
    """Put a wide chart of made-up numbers together; draw one of the newest run that has series
    `CHARTS` times from its chunks."""
    _wide()
    runs = (run.id for run in store.runs(limit=RUNS)[0])
    first = next(((run, found[0].id) for run in runs if (found := store.series_of(run))), None)
    if first is None:
        return
    run, one = first
    for _ in range(CHARTS):
        history = History(store.readers)
        history.upto(run)
        index = history.index([one], run)[one]
        if index.chunks:
            found = answer(history, index, _NOTHING, None, None, BUCKETS)
            series_frame(run, {one: found}, None, None)


def _wide() -> None:
    """For the heap alone: what the newest run has may fill a few pages, a long series hundreds."""
    steps = np.arange(WIDE_BUCKETS)
    packed = pack_summary(summary_of(steps, steps.astype(float), np.sin(steps), 1))
    parts = []
    for number in range(WIDE_PARTS):
        part = unpack_summary(packed)
        for name in ("first_step", "last_step"):
            part[name] += number * WIDE_BUCKETS
        parts.append(part)
    merged(parts, WIDE_PARTS * WIDE_BUCKETS // BUCKETS)
