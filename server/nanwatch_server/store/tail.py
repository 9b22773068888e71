"""The points of the runs in use that are not in chunks yet, in memory, as growing columns.

Filled from the journal at a run's first use, then by the pipeline after each commit, emptied by
the compactor. `query` reads it together with `history`. Bounded: the run that nobody used for
longest is forgotten first, and the series of one that fills memory alone keep their newest points
(older ones are read from the journal).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from nanwatch_server.domain.models import Series
from nanwatch_server.domain.ports import Store
from nanwatch_server.store.buckets import F64, I64
from nanwatch_server.store.history import Columns, History, Index, ReplacedError
from nanwatch_server.store.query import Answer, Newest, answer
from nanwatch_server.store.replay import Points, joined, replay, tables_of

SERIES_POINTS_MAX = 1 << 20
"""Points of one series kept in memory; when it is full the older half goes."""

NOTED_MOST = 1_024
NOTED_STEPS_MOST = 1 << 16
"""Tables, and their rows, that wait to be put into columns."""

SERIES_POINTS_LEAST = 256
"""…but so many of each stay, however many series share the memory."""

LOOKS = 64
"""Memory is looked at when a 64th of what it may hold has come."""

ATTEMPTS = 20
"""A query that meets a compaction begins again; more often than this nobody is so unlucky."""


class _Series:
    """Growing columns. What was handed out as a view is never written again."""

    __slots__ = ("_n", "_steps", "_times", "_values", "missing", "sorted")

    def __init__(self) -> None:
        self._steps = np.empty(64, np.int64)
        self._times = np.empty(64)
        self._values = np.empty(64)
        self._n = 0
        self.missing = 0
        """Older points that lie in the journal only."""
        self.sorted = True
        """The steps never fall."""

    def __len__(self) -> int:
        return self._n

    def append(self, steps: I64, times: F64, values: F64, most: int) -> None:
        """Points in order of arrival; at most about `most` of them are kept in memory."""
        n, end = self._n, self._n + len(steps)
        if end > most:
            cut = max(0, len(steps) - most)
            steps, times, values = steps[cut:], times[cut:], values[cut:]
            keep = min(n, most // 2, most - len(steps))
            self.missing += n - keep + cut
            self._move(n - keep, keep, most)
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

    def drop(self, count: int) -> None:
        """Forget the oldest `count` points: they are in chunks now."""
        kept = self._n - min(max(count, 0), self._n)
        self._move(self._n - kept, kept, max(64, kept))
        self._n = kept
        self.sorted = bool((np.diff(self._steps[:kept]) >= 0).all())

    def columns(self, newest: int | None = None) -> Columns:
        """All points, or the last `newest`."""
        start = 0 if newest is None else max(self._n - newest, 0)
        part = slice(start, self._n)
        return Columns(self._steps[part], self._times[part], self._values[part])


class _Run:
    """The series of one run and the journal row up to which they are complete.

    What comes is only noted; it is put into the columns when someone looks, so that a table of a
    hundred series costs one list entry and not three hundred copies.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._series: dict[int, _Series] = {}
        self._noted: list[Points] = []
        self._noted_steps = 0
        self.base = 0
        """Journal row up to which points are in chunks."""
        self.upto = -1
        """-1: not loaded yet."""
        self.points = 0
        self.rows: deque[tuple[int, tuple[Series, ...], int]] = deque()
        """(journal row, series of a table, its points), oldest first."""

    @property
    def count(self) -> int:
        """Series that were put into columns so far."""
        return len(self._series)

    def note(self, row: int, tables: Sequence[Points], most: int) -> None:
        """Tables of a journal row; of a series at most about `most` points are kept."""
        for points in tables:
            self._noted.append(points)
            self._noted_steps += len(points.steps)
            self.points += points.values.size
            self.rows.append((row, points.series, len(points.steps)))
        if len(self._noted) >= NOTED_MOST or self._noted_steps > min(most, NOTED_STEPS_MOST):
            self.series(most)

    def series(self, most: int) -> dict[int, _Series]:
        """All series by number, with everything that was noted."""
        noted, self._noted, self._noted_steps = self._noted, [], 0
        for points in joined(noted):
            for one, values in zip(points.series, points.values, strict=True):
                series = self._series.get(one.id)
                if series is None:
                    series = self._series[one.id] = _Series()
                whole = len(series) + len(values)
                series.append(points.steps, points.times, values, most)
                self.points -= whole - len(series)
        return self._series

    def take(self, other: _Run) -> None:
        """Become what another one is."""
        self._series, self._noted = other._series, other._noted
        self._noted_steps, self.points, self.rows = other._noted_steps, other.points, other.rows
        self.base, self.upto = other.base, other.upto

    def clear(self) -> None:
        """Forget everything; the next use loads it again."""
        base = self.base
        self.take(_Run())
        self.base = base


class Tail:
    """All methods are safe to call from any thread."""

    def __init__(
        self,
        store: Store,
        history: History,
        *,
        points_max: int = 20_000_000,
        series_points_max: int = SERIES_POINTS_MAX,
    ) -> None:
        self._store, self._history = store, history
        self._points_max, self._series_max = points_max, series_points_max
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._grown = 0
        """Points that came since memory was last looked at, about."""
        self.crowded = False
        """More than half of the points that memory may hold are there: it is time to compact."""

    def append(self, run_id: str, row: int, tables: Sequence[Points]) -> None:
        """Points of a journal row that was just committed."""
        with self._loaded(run_id, before=row) as run:
            if row > run.upto:
                run.note(row, tables, self._most(run, tables))
                run.upto = row

    def _most(self, run: _Run, fresh: Sequence[Points] = ()) -> int:
        """Points of each series that one run may keep: all of them together no more than memory may
        hold. `fresh`: tables that come now."""
        several = max([1, run.count, *(len(points.series) for points in fresh)])
        share = self._points_max // several
        return min(self._series_max, max(SERIES_POINTS_LEAST, share))

    def query(
        self, run_id: str, series_id: int, x0: int | None, x1: int | None, buckets: int
    ) -> Answer:
        """Points with x0 ≤ step ≤ x1: as they are if at most `buckets`, else buckets of them."""
        return self.query_many(run_id, [series_id], x0, x1, buckets)[series_id]

    def query_many(
        self, run_id: str, series_ids: Sequence[int], x0: int | None, x1: int | None, buckets: int
    ) -> dict[int, Answer]:
        """The same for several series, each with at most `buckets` entries."""
        left = ATTEMPTS
        while True:
            left -= 1
            found = self._snapshot(run_id, series_ids)
            try:
                return {
                    one: answer(self._history, index, newest, x0, x1, buckets)
                    for one, (index, newest) in found.items()
                }
            except ReplacedError:
                if not left:
                    raise

    def newest(self, run_id: str, series_id: int, count: int) -> Columns:
        """The last `count` points to arrive, or what memory holds of them."""
        left = ATTEMPTS
        while True:
            left -= 1
            with self._loaded(run_id) as run:
                series = run.series(self._most(run)).get(series_id)
                columns = _NOTHING.columns if series is None else series.columns(count)
                index = self._history.index([series_id], run_id)[series_id]
            missing = series is not None and series.missing
            if len(columns.steps) >= count or missing or not index.chunks:
                return columns
            refs, held = [], len(columns.steps)
            for ref in reversed(index.chunks):
                if ref.dropped:
                    break
                refs.append(ref)
                held += ref.points
                if held >= count:
                    break
            if not refs:
                return columns
            try:
                parts = [*self._history.points(refs[::-1]), columns]
            except ReplacedError:
                if not left:
                    raise
                continue
            whole = Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            return whole.pick(slice(max(0, len(whole.steps) - count), None))

    def compacted(
        self, run_id: str, upto: int, series_ids: Iterable[int], commit: Callable[[], None]
    ) -> None:
        """`commit` moves journal rows up to `upto` into chunks; no query sees half of that."""
        with self._lock:
            run = self._runs.setdefault(run_id, _Run())
        with run.lock:
            commit()
            self._history.forget(series_ids)
            run.base = upto
            self._trim(run, upto)

    def changed(self, run_id: str, series_ids: Iterable[int], commit: Callable[[], None]) -> None:
        """`commit` changes chunks of these series; no query sees half of that."""
        with self._lock:
            run = self._runs.setdefault(run_id, _Run())
        with run.lock:
            commit()
            self._history.forget(series_ids)

    def forget(self, run_id: str) -> None:
        """The run is deleted."""
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run is not None:
            with run.lock:
                run.clear()

    def _trim(self, run: _Run, upto: int) -> None:
        known = run.series(self._most(run))
        gone: dict[int, int] = {}
        while run.rows and run.rows[0][0] <= upto:
            _, several, count = run.rows.popleft()
            for one in several:
                gone[one.id] = gone.get(one.id, 0) + count
        for one, count in gone.items():
            series = known.get(one)
            if series is not None:
                before = len(series)
                # Of a series that was cut, the oldest points were gone already.
                series.drop(count - series.missing)
                series.missing = max(0, series.missing - count)
                run.points -= before - len(series)

    def _snapshot(self, run_id: str, series_ids: Sequence[int]) -> dict[int, tuple[Index, Newest]]:
        """What is in chunks and what is not, at one moment."""
        with self._loaded(run_id) as run:
            index, known = self._history.index(series_ids, run_id), run.series(self._most(run))
            return {
                one: (index[one], self._newest(run_id, run.base, one, known.get(one)))
                for one in series_ids
            }

    def _newest(self, run_id: str, base: int, series_id: int, series: _Series | None) -> Newest:
        if series is None:
            return _NOTHING
        if not series.missing:
            return Newest(series.columns(), series.sorted)
        columns = self._from_journal(run_id, base, series_id)
        return Newest(columns, bool((np.diff(columns.steps) >= 0).all()))

    def _from_journal(self, run_id: str, after: int, series_id: int) -> Columns:
        parts = [_NOTHING.columns]
        for committed in replay(self._store, run_id, after):
            for points in tables_of(committed):
                parts += [
                    Columns(points.steps, points.times, points.values[i])
                    for i, series in enumerate(points.series)
                    if series.id == series_id
                ]
        return Columns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    @contextmanager
    def _loaded(self, run_id: str, before: int | None = None) -> Iterator[_Run]:
        """The run, filled and locked; afterwards others make room for what has come.

        `before`: a journal row at hand, so that it and what follows need not be read.
        """
        with self._lock:
            run = self._runs.setdefault(run_id, _Run())
            self._runs.move_to_end(run_id)
        with run.lock:
            points = run.points
            self._load(run_id, run, before)
            yield run
            grown = run.points - points
        if grown > 0:
            self._grown += grown
            if self._grown > self._points_max // LOOKS:
                self._evict(run_id)

    def _load(self, run_id: str, run: _Run, before: int | None) -> None:
        """Fill a run from the journal; all or nothing."""
        if run.upto >= 0:
            return
        fresh = _Run()
        base = upto = self._history.upto(run_id)
        for committed in replay(self._store, run_id, base, before):
            tables = tables_of(committed)
            fresh.note(committed.row, tables, self._most(fresh, tables))
            upto = committed.row
        fresh.base, fresh.upto = base, upto
        run.take(fresh)

    def _evict(self, keep: str) -> None:
        """Those unused for longest make room; what is in use at this moment stays."""
        self._grown = 0
        with self._lock:
            total = sum(run.points for run in self._runs.values())
            oldest = [(name, run) for name, run in self._runs.items() if run.points]
        self.crowded = total > self._points_max // 2
        for name, run in oldest:
            if total <= self._points_max or name == keep:
                return
            if run.lock.acquire(blocking=False):
                try:
                    total -= run.points
                    run.clear()
                finally:
                    run.lock.release()


_NOTHING = Newest(Columns(np.empty(0, np.int64), np.empty(0), np.empty(0)), True)
