"""Goes the way of a chart several times before someone waits for one. `app` calls it at the start,
on a thread of the kind that answers requests.

What is read is thrown away: caches stay empty, but the interpreter has seen the code (3.11 runs it
faster from the eighth time on), statements are prepared and the thread's heap has its pages.
"""

from __future__ import annotations

import numpy as np

from nanwatch_server.api.series import series_frame
from nanwatch_server.store.history import Columns, History
from nanwatch_server.store.query import Newest, answer
from nanwatch_server.store.sql import SqlStore

CHARTS = 8
"""Charts that are rehearsed."""
RUNS = 4
"""Newest runs that are looked at for one."""
BUCKETS = 2_000
# the journal is left alone: after a crash it may hold minutes of points
_NOTHING = Newest(Columns(np.empty(0, np.int64), np.empty(0), np.empty(0)), True)


def rehearse(store: SqlStore) -> None:
    """Draw a chart of the newest run that has series `CHARTS` times from its chunks."""
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
