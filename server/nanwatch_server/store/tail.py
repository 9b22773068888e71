"""The points of the runs in use that are not in chunks yet, in memory, as growing columns.

Filled from the journal at a run's first use, then by the pipeline after each commit, emptied by
the compactor. `query` reads it together with `history`. Bounded: a series keeps its newest points
(older ones are read from the journal), and the run that nobody used for longest is forgotten first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from nanwatch_server.domain.ports import Store
from nanwatch_server.store.buckets import F64, I64
from nanwatch_server.store.history import Columns, History, Index, ReplacedError
from nanwatch_server.store.query import Answer, Newest, answer
from nanwatch_server.store.replay import Points, replay, tables_of

SERIES_POINTS_MAX = 1 << 20
"""Points of one series kept in memory; when it is full the older half goes."""

NOTED_MOST = 4_096
"""Tables that wait to be put into the columns of a series."""

ATTEMPTS = 20
"""A query that meets a compaction begins again; more often than this nobody is so unlucky."""


class _Series:
    """Growing columns. What was handed out as a view is never written again.

    What comes is only noted (`note`); it is put into the columns when someone looks, so that a
    table of a hundred series costs a hundred list entries and not three hundred copies.
    """

    __slots__ = (
        "_n",
        "_noted",
        "_noted_points",
        "_sorted",
        "_steps",
        "_times",
        "_values",
        "missing",
    )

    def __init__(self) -> None:
        self._steps = np.empty(64, np.int64)
        self._times = np.empty(64)
        self._values = np.empty(64)
        self._n = 0
        self.missing = 0
        """Older points that lie in the journal only."""
        self._sorted = True
        self._noted: list[tuple[I64, F64, F64]] = []
        self._noted_points = 0

    def __len__(self) -> int:
        return self._n + self._noted_points

    @property
    def sorted(self) -> bool:
        """True if the steps never fall."""
        self._absorb(0)
        return self._sorted

    def note(self, steps: I64, times: F64, values: F64, most: int) -> None:
        """Points in order of arrival; at most about `most` of them are kept in memory."""
        self._noted.append((steps, times, values))
        self._noted_points += len(steps)
        if len(self._noted) >= NOTED_MOST or len(self) > most:
            self._absorb(most)

    def _absorb(self, most: int) -> None:
        if self._noted:
            noted, self._noted, self._noted_points = self._noted, [], 0
            steps, times, values = (
                noted[0]
                if len(noted) == 1
                else tuple(np.concatenate(column) for column in zip(*noted, strict=True))
            )
            self._append(steps, times, values, most or self._n + SERIES_POINTS_MAX)

    def _append(self, steps: I64, times: F64, values: F64, most: int) -> None:
        n, end = self._n, self._n + len(steps)
        if end > most:
            keep = min(n, most // 2)
            self.missing += n - keep
            self._move(n - keep, keep, max(most, keep + len(steps)))
            n, end = keep, keep + len(steps)
        elif end > len(self._steps):
            self._move(0, n, max(end, 2 * len(self._steps)))
        self._steps[n:end] = steps
        self._times[n:end] = times
        self._values[n:end] = values
        low = max(n - 1, 0)
        if self._sorted and len(steps):
            self._sorted = bool((np.diff(self._steps[low:end]) >= 0).all())
        self._n = end

    def _move(self, start: int, count: int, size: int) -> None:
        for name in ("_steps", "_times", "_values"):
            old = getattr(self, name)
            new = np.empty(size, old.dtype)
            new[:count] = old[start : start + count]
            setattr(self, name, new)

    def drop(self, count: int) -> None:
        """Forget the oldest `count` points: they are in chunks now."""
        self._absorb(0)
        kept = self._n - min(max(count, 0), self._n)
        self._move(self._n - kept, kept, max(64, kept))
        self._n = kept
        self._sorted = bool((np.diff(self._steps[:kept]) >= 0).all())

    def columns(self, newest: int | None = None) -> Columns:
        """All points, or the last `newest`."""
        self._absorb(0)
        start = 0 if newest is None else max(self._n - newest, 0)
        part = slice(start, self._n)
        return Columns(self._steps[part], self._times[part], self._values[part])


class _Run:
    """The series of one run and the journal row up to which they are complete."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.series: dict[int, _Series] = {}
        self.base = 0
        """Journal row up to which points are in chunks."""
        self.upto = -1
        """-1: not loaded yet."""
        self.points = 0
        self.rows: deque[tuple[int, tuple[int, ...], int]] = deque()
        """(journal row, series of a table, its points), oldest first."""

    def clear(self) -> None:
        """Forget everything; the next use loads it again."""
        self.series, self.rows = {}, deque()
        self.points, self.upto = 0, -1


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

    def append(self, run_id: str, row: int, tables: Sequence[Points]) -> None:
        """Points of a journal row that was just committed."""
        with self._loaded(run_id) as run:
            if row > run.upto:
                self._add(run, tables)
                _note(run, row, tables)
                run.upto = row

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
                series = run.series.get(series_id)
                columns = _NOTHING.columns if series is None else series.columns(count)
                index = self._history.index([series_id])[series_id]
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

    @staticmethod
    def _trim(run: _Run, upto: int) -> None:
        gone: dict[int, int] = {}
        while run.rows and run.rows[0][0] <= upto:
            _, ids, count = run.rows.popleft()
            for one in ids:
                gone[one] = gone.get(one, 0) + count
        for one, count in gone.items():
            series = run.series.get(one)
            if series is not None:
                before = len(series)
                # Of a series that was cut, the oldest points were gone already.
                series.drop(count - series.missing)
                series.missing = max(0, series.missing - count)
                run.points -= before - len(series)

    def _snapshot(self, run_id: str, series_ids: Sequence[int]) -> dict[int, tuple[Index, Newest]]:
        """What is in chunks and what is not, at one moment."""
        with self._loaded(run_id) as run:
            index = self._history.index(series_ids)
            return {one: (index[one], self._newest(run_id, run, one)) for one in series_ids}

    def _newest(self, run_id: str, run: _Run, series_id: int) -> Newest:
        series = run.series.get(series_id)
        if series is None:
            return _NOTHING
        if not series.missing:
            return Newest(series.columns(), series.sorted)
        columns = self._from_journal(run_id, run.base, series_id)
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
        fresh = _Run()
        base = upto = self._history.upto(run_id)
        for committed in replay(self._store, run_id, base):
            tables = tables_of(committed)
            self._add(fresh, tables)
            _note(fresh, committed.row, tables)
            upto = committed.row
        run.series, run.points, run.rows = fresh.series, fresh.points, fresh.rows
        run.base, run.upto = base, upto

    def _add(self, run: _Run, tables: Sequence[Points]) -> None:
        most, known = self._series_max, run.series
        for points in tables:
            steps, times = points.steps, points.times
            run.points += points.values.size
            for one, values in zip(points.series, points.values, strict=True):
                series = known.get(one.id)
                if series is None:
                    series = known[one.id] = _Series()
                before = len(series) + len(steps)
                series.note(steps, times, values, most)
                run.points -= before - len(series)

    def _evict(self, keep: str) -> None:
        """Those unused for longest make room; what is in use at this moment stays."""
        with self._lock:
            total = sum(run.points for run in self._runs.values())
            oldest = [(name, run) for name, run in self._runs.items() if run.points]
        for name, run in oldest:
            if total <= self._points_max or name == keep:
                return
            if run.lock.acquire(blocking=False):
                try:
                    total -= run.points
                    run.clear()
                finally:
                    run.lock.release()


def _note(run: _Run, row: int, tables: Sequence[Points]) -> None:
    for points in tables:
        run.rows.append((row, tuple(one.id for one in points.series), len(points.steps)))


_NOTHING = Newest(Columns(np.empty(0, np.int64), np.empty(0), np.empty(0)), True)
