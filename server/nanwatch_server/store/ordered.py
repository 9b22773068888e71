"""All points of a run, exactly, in the order in which they came, in bounded memory.

For exports and back-tests: reads one moment of the database, also while a server writes. Series
that share an axis are read together; different axes advance side by side in time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Row, Select

from nanwatch_server.domain.models import RunMark, Series
from nanwatch_server.domain.points import Points
from nanwatch_server.store import chunks
from nanwatch_server.store import tables as t
from nanwatch_server.store.chunks import ChunkRef
from nanwatch_server.store.codec import unpack_axis, unpack_values
from nanwatch_server.store.reads import Reads
from nanwatch_server.store.replay import joined, replay, tables_of
from nanwatch_server.store.verify import one_moment
from nanwatch_server.store.weave import rising_key

ROUND_VALUES = 1 << 21
"""Values of one round, about."""
HELD_SERIES = 2_048
"""Decoded chunks that are held; with more series each is decoded again for every round."""
SERIES_AT_ONCE = 256


class Moment(Reads):
    """The reading half of a store at one moment, through one connection."""

    def __init__(self, db: Connection, readers: Engine) -> None:
        super().__init__(readers)
        self._db = db

    @property
    def db(self) -> Connection:
        """The connection."""
        return self._db

    def _all(self, query: Select) -> list[Row]:
        return list(self._db.execute(query).all())

    def _first(self, query: Select) -> Row | None:
        return self._db.execute(query).first()


@contextmanager
def moment(engine: Engine) -> Iterator[Moment]:
    """What the database holds when the block begins."""
    with one_moment(engine) as db:
        yield Moment(db, engine)


class _Axis:
    """Chunks that share steps and times, and how far they were given out."""

    def __init__(self, axis: tuple[Any, Any], series: list[Series], refs: list[ChunkRef]) -> None:
        self.steps, self.times = axis
        self.series, self.refs = series, refs
        self.at = 0
        blank = Points((), self.steps, self.times, np.empty((0, len(self.steps))))
        self.key_time, self.key_step = rising_key(blank)
        self.held: np.ndarray | None = None

    def upto(self, time: float, step: float) -> int:
        """Rows whose key is at most this."""
        low = int(np.searchsorted(self.key_time, time, "left"))
        high = int(np.searchsorted(self.key_time, time, "right"))
        return low + int(np.searchsorted(self.key_step[low:high], step, "right"))

    @property
    def done(self) -> bool:
        return self.at >= len(self.steps)


class OrderedRun:
    """The points of one run. `dropped` counts those of which retention left only summaries."""

    def __init__(self, reads: Moment, run_id: str) -> None:
        self._reads, self._db = reads, reads.db
        self._run_id = run_id
        self.series = reads.series_of(run_id)
        self._waiting: dict[int, list[ChunkRef]] = {one.id: [] for one in self.series}
        self.dropped = self.total = 0
        for ref in chunks.refs_of(self._db, list(self._waiting)):
            if ref.dropped:
                self.dropped += ref.points
            else:
                self.total += ref.points
                self._waiting[ref.series_id].append(ref)
        for refs in self._waiting.values():
            refs.reverse()  # taken from the end
        self._known = {one.id: one for one in self.series}
        self._axes: list[_Axis] = []
        self._hold = len(self.series) <= HELD_SERIES

    def rounds(self) -> Iterator[list[Points]]:
        """Points that lie side by side in time, a bounded number at once."""
        self._open(list(self._waiting))
        rows = max(64, ROUND_VALUES // max(len(self.series), 1))
        while self._axes:
            ends = [(a, min(a.at + rows, len(a.steps)) - 1) for a in self._axes]
            time, step = min((float(a.key_time[e]), float(a.key_step[e])) for a, e in ends)
            tables: list[Points] = []
            for axis in self._axes:
                stop = max(axis.upto(time, step), axis.at)
                if stop > axis.at:
                    tables += self._cut(axis, stop)
            free = [one.id for axis in self._axes if axis.done for one in axis.series]
            self._axes = [axis for axis in self._axes if not axis.done]
            self._open(free)
            yield tables
        for committed in replay(self._reads, self._run_id):
            if tables := joined(tables_of(committed)):
                yield tables

    def marks(self) -> list[RunMark]:
        """Marks in order of arrival."""
        return self._reads.marks(self._run_id)

    def _open(self, series_ids: Sequence[int]) -> None:
        """The next chunk of each of these series."""
        by_axis: dict[int, list[ChunkRef]] = {}
        for one in series_ids:
            if refs := self._waiting[one]:
                ref = refs.pop()
                by_axis.setdefault(ref.axis, []).append(ref)
        for numbers in chunks.batches(list(by_axis)):
            blobs = chunks.blobs(self._db, t.axes.c.data, numbers)
            for number in numbers:
                refs = by_axis[number]
                series = [self._known[ref.series_id] for ref in refs]
                self._axes.append(_Axis(unpack_axis(blobs[number]), series, refs))

    def _cut(self, axis: _Axis, stop: int) -> list[Points]:
        cut = slice(axis.at, stop)
        axis.at = stop
        if self._hold:
            if axis.held is None:
                axis.held = self._values(axis.refs)
            parts = [(tuple(axis.series), axis.held[:, cut])]
        else:
            parts = [
                (
                    tuple(axis.series[i : i + SERIES_AT_ONCE]),
                    self._values(axis.refs[i : i + SERIES_AT_ONCE])[:, cut].copy(),
                )
                for i in range(0, len(axis.refs), SERIES_AT_ONCE)
            ]
        return [Points(series, axis.steps[cut], axis.times[cut], v) for series, v in parts]

    def _values(self, refs: Sequence[ChunkRef]) -> np.ndarray:
        blobs = chunks.blobs(self._db, t.chunks.c.data, [ref.n for ref in refs])
        values = np.empty((len(refs), refs[0].points))
        for row, ref in enumerate(refs):
            values[row] = unpack_values(blobs[ref.n])
        return values
