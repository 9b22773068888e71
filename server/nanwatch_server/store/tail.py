"""The newest points of the runs in use, in memory, as growing columns; and queries over them.

Filled from the journal at a run's first use, then by the pipeline after each commit. Bounded: a
series keeps its newest points (older ranges are read from the journal), and the run that nobody
used for longest is forgotten first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from nanwatch_server.domain.ports import Store
from nanwatch_server.store.buckets import F64, I64, bucketed, width_for
from nanwatch_server.store.replay import Points, joined, replay, tables_of

SERIES_POINTS_MAX = 1 << 20
"""Points of one series kept in memory; when it is full the older half goes."""

JOIN_POINTS = 1 << 20
"""Points of the journal that are joined at a time when a run is filled from it."""


class Columns(NamedTuple):
    """Points of one series in order of arrival."""

    steps: I64
    times: F64
    values: F64

    def pick(self, which: slice | I64) -> Columns:
        """These positions of every column."""
        return Columns(self.steps[which], self.times[which], self.values[which])


class Answer(NamedTuple):
    """Points of a series in a range: `raw` if they are few, else `buckets`."""

    raw: Columns | None
    buckets: dict[str, F64] | None


class _Series:
    """Growing columns. What was handed out as a view is never written again."""

    __slots__ = ("_n", "_steps", "_times", "_values", "cut", "sorted")

    def __init__(self) -> None:
        self._steps = np.empty(64, np.int64)
        self._times = np.empty(64)
        self._values = np.empty(64)
        self._n = 0
        self.cut = False
        """True if older points lie in the journal only."""
        self.sorted = True

    def __len__(self) -> int:
        return self._n

    def append(self, steps: I64, times: F64, values: F64, most: int) -> None:
        n, end = self._n, self._n + len(steps)
        if end > most:
            keep = min(n, most // 2)
            self.cut = True
            self._move(n - keep, keep, max(most, keep + len(steps)))
            n, end = keep, keep + len(steps)
        elif end > len(self._steps):
            self._move(0, n, max(end, 2 * len(self._steps)))
        self._steps[n:end] = steps
        self._times[n:end] = times
        self._values[n:end] = values
        low = max(n - 1, 0)
        if self.sorted and len(steps):
            self.sorted = bool((np.diff(self._steps[low:end]) >= 0).all())
        self._n = end

    def _move(self, start: int, count: int, size: int) -> None:
        for name in ("_steps", "_times", "_values"):
            old = getattr(self, name)
            new = np.empty(size, old.dtype)
            new[:count] = old[start : start + count]
            setattr(self, name, new)

    def columns(self, newest: int | None = None) -> Columns:
        start = 0 if newest is None else max(self._n - newest, 0)
        part = slice(start, self._n)
        return Columns(self._steps[part], self._times[part], self._values[part])


class _Run:
    """The series of one run and the journal row up to which they are complete."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.series: dict[int, _Series] = {}
        self.upto = -1
        """-1: not loaded yet."""
        self.points = 0


class Tail:
    """All methods are safe to call from any thread."""

    def __init__(
        self,
        store: Store,
        *,
        points_max: int = 20_000_000,
        series_points_max: int = SERIES_POINTS_MAX,
    ) -> None:
        self._store = store
        self._points_max, self._series_max = points_max, series_points_max
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    def append(self, run_id: str, row: int, tables: Sequence[Points]) -> None:
        """Points of a journal row that was just committed."""
        with self._loaded(run_id) as run:
            if row > run.upto:
                self._add(run, tables)
                run.upto = row

    def query(
        self, run_id: str, series_id: int, x0: int | None, x1: int | None, buckets: int
    ) -> Answer:
        """Points with x0 ≤ step ≤ x1: as they are if at most `buckets`, else buckets of them."""
        columns, in_order = self._columns(run_id, series_id, x0)
        if not in_order:
            order = np.argsort(columns.steps, kind="stable")
            columns = columns.pick(order)
        start = 0 if x0 is None else int(np.searchsorted(columns.steps, x0, "left"))
        stop = len(columns.steps)
        if x1 is not None:
            stop = int(np.searchsorted(columns.steps, x1, "right"))
        columns = columns.pick(slice(start, stop))
        if len(columns.steps) <= buckets:
            return Answer(columns, None)
        low = int(columns.steps[0]) if x0 is None else x0
        high = int(columns.steps[-1]) if x1 is None else x1
        width = width_for(low, high, buckets)
        return Answer(None, bucketed(columns.steps, columns.times, columns.values, width))

    def newest(self, run_id: str, series_id: int, count: int) -> Columns:
        """The last `count` points to arrive."""
        with self._loaded(run_id) as run:
            series = run.series.get(series_id)
            return _NOTHING if series is None else series.columns(count)

    def _columns(self, run_id: str, series_id: int, x0: int | None) -> tuple[Columns, bool]:
        with self._loaded(run_id) as run:
            series = run.series.get(series_id)
            if series is None:
                return _NOTHING, True
            columns, cut, in_order = series.columns(), series.cut, series.sorted
        if cut and (x0 is None or not in_order or x0 <= columns.steps[0]):
            columns = self._from_journal(run_id, series_id)
            in_order = bool((np.diff(columns.steps) >= 0).all())
        return columns, in_order

    def _from_journal(self, run_id: str, series_id: int) -> Columns:
        parts = [_NOTHING]
        for committed in replay(self._store, run_id):
            for points in tables_of(committed):
                parts += [
                    Columns(points.steps, points.times, points.values[i])
                    for i, series in enumerate(points.series)
                    if series.id == series_id
                ]
        return Columns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @contextmanager
    def _loaded(self, run_id: str) -> Iterator[_Run]:
        """The run, filled and locked; afterwards others make room for what has come."""
        with self._lock:
            run = self._runs.setdefault(run_id, _Run())
            self._runs.move_to_end(run_id)
        with run.lock:
            before = run.points
            self._load(run_id, run)
            yield run
            grown = run.points > before
        if grown:
            self._evict(run_id)

    def _load(self, run_id: str, run: _Run) -> None:
        """Fill a run from the journal; all or nothing."""
        if run.upto >= 0:
            return
        fresh, upto, size = _Run(), 0, 0
        tables: list[Points] = []
        for committed in replay(self._store, run_id):
            more = tables_of(committed)
            tables += more
            size += sum(table.values.size for table in more)
            upto = committed.row
            if size >= JOIN_POINTS:
                self._add(fresh, tables)
                tables, size = [], 0
        self._add(fresh, tables)
        run.series, run.points, run.upto = fresh.series, fresh.points, upto

    def _add(self, run: _Run, tables: Sequence[Points]) -> None:
        for points in joined(tables):
            for one, values in zip(points.series, points.values, strict=True):
                series = run.series.setdefault(one.id, _Series())
                before = len(series)
                series.append(points.steps, points.times, values, self._series_max)
                run.points += len(series) - before

    def _evict(self, keep: str) -> None:
        with self._lock:
            total = sum(run.points for run in self._runs.values())
            while total > self._points_max and len(self._runs) > 1:
                oldest = next(iter(self._runs))
                if oldest == keep:
                    return
                total -= self._runs.pop(oldest).points


_NOTHING = Columns(np.empty(0, np.int64), np.empty(0), np.empty(0))
