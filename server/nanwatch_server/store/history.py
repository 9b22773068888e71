"""What lies in chunks: index, raw points and summaries of series, with a bounded cache.

`query` puts it together with the newest points of `tail`. A chunk that was replaced meanwhile by a
fuller one is told by `ReplacedError`: then the caller looks again.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import Engine, select

from nanwatch_server.store import chunks
from nanwatch_server.store import tables as t
from nanwatch_server.store.buckets import F64, I64
from nanwatch_server.store.chunks import ChunkRef, SpanRef
from nanwatch_server.store.codec import unpack_axis, unpack_values
from nanwatch_server.store.pyramid import (
    FAN,
    POINTS_A_BUCKET,
    Summary,
    merged,
    pack_summary,
    summary_of,
    unpack_summary,
)

CACHE_BYTES = 192 << 20
"""Decoded axes and summaries that are kept, and answers made of them."""

WARM_POINTS = 4_096
"""Points of the query that is rehearsed at the start."""

INDEX_SERIES_MAX = 50_000
"""Series whose chunks are known by heart."""

V = TypeVar("V")


class ReplacedError(Exception):
    """A chunk of the index is no more: its points are in a fuller one, or dropped."""


class Columns(NamedTuple):
    """Points of one series in order of arrival."""

    steps: I64
    times: F64
    values: F64

    def pick(self, which: slice | I64) -> Columns:
        """These positions of every column."""
        return Columns(self.steps[which], self.times[which], self.values[which])


class Index(NamedTuple):
    """Chunks of a series in order, and the spans over them: (level, first chunk) → span."""

    chunks: list[ChunkRef]
    spans: dict[tuple[int, int], SpanRef]
    levels: int
    """Levels of spans there are."""
    clean: bool
    """Steps rise from each chunk to the next and within."""
    number: int
    """No two have the same: what was worked out from this one is kept under it."""


class _Cache:
    """Least recently used first out, bounded in bytes. Safe from any thread."""

    def __init__(self, bytes_max: int) -> None:
        self._max, self._bytes = bytes_max, 0
        self._lock = threading.Lock()
        self._held: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        with self._lock:
            found = self._held.get(key)
            if found is None:
                return None
            self._held.move_to_end(key)
            return found[0]

    def put(self, key: Any, value: Any, size: int) -> None:
        with self._lock:
            before = self._held.pop(key, None)
            self._bytes += size - (before[1] if before else 0)
            self._held[key] = (value, size)
            while self._bytes > self._max and len(self._held) > 1:
                _, (_, gone) = self._held.popitem(last=False)
                self._bytes -= gone


class History:
    """All methods are safe to call from any thread."""

    def __init__(self, readers: Engine, cache_bytes: int = CACHE_BYTES) -> None:
        self._readers = readers
        self._cache = _Cache(cache_bytes)
        self._lock = threading.Lock()
        self._index: OrderedDict[int, Index] = OrderedDict()
        self._numbers = itertools.count()

    def warm(self) -> None:
        """Open a connection, prepare the statements of a query and go its way once with made-up
        numbers, before someone waits for it."""
        steps = np.arange(WARM_POINTS)
        part = summary_of(steps, steps.astype(float), np.sin(steps), POINTS_A_BUCKET)
        later = {**part, **{name: part[name] + WARM_POINTS for name in ("first_step", "last_step")}}
        parts = [unpack_summary(pack_summary(one)) for one in (part, later)]
        merged(parts, FAN * POINTS_A_BUCKET)
        self.upto("")
        self.index([-1], "-")
        self.forget([-1])
        with self._readers.connect() as db:
            for column in (t.chunks.c.summary, t.chunks.c.data, t.spans.c.data, t.axes.c.data):
                chunks.blobs(db, column, [-1], "-")

    # --- index --------------------------------------------------------------------------------

    def upto(self, run_id: str) -> int:
        """Journal row up to which the run's points lie in chunks; 0 if none do."""
        query = select(t.compactions.c.upto).where(t.compactions.c.run_id == run_id)
        with self._readers.connect() as db:
            return db.execute(query).scalar() or 0

    def index(self, series_ids: Sequence[int], run_id: str = "") -> dict[int, Index]:
        """Index of each series. Ask while nothing can be compacted: `Tail` holds its run."""
        with self._lock:
            known = {one: self._index[one] for one in series_ids if one in self._index}
        missing = [one for one in series_ids if one not in known]
        if missing:
            known |= self._load(missing, run_id)
        return known

    def _load(self, series_ids: list[int], run_id: str) -> dict[int, Index]:
        refs: dict[int, list[ChunkRef]] = {one: [] for one in series_ids}
        spans: dict[int, dict[tuple[int, int], SpanRef]] = {one: {} for one in series_ids}
        with self._readers.connect() as db:
            for ref in chunks.refs_of(db, series_ids, run_id):
                refs[ref.series_id].append(ref)
            for span in chunks.spans_of(db, series_ids, run_id):
                spans[span.series_id][span.level, span.first] = span
        found = {one: _index_of(refs[one], spans[one], next(self._numbers)) for one in series_ids}
        with self._lock:
            self._index.update(found)
            while len(self._index) > INDEX_SERIES_MAX:
                self._index.popitem(last=False)
        return found

    def last(self, series_ids: Sequence[int], run_id: str = "") -> dict[int, ChunkRef]:
        """Newest chunk of each series that has one."""
        with self._readers.connect() as db:
            return chunks.last_refs(db, series_ids, run_id)

    def forget(self, series_ids: Iterable[int]) -> None:
        """These series have new chunks."""
        with self._lock:
            for one in series_ids:
                self._index.pop(one, None)

    # --- contents -----------------------------------------------------------------------------

    def summaries(self, refs: Sequence[ChunkRef | SpanRef]) -> list[Summary]:
        """Their summaries, in the order asked. Raises `ReplacedError`."""
        singles = [ref for ref in refs if isinstance(ref, ChunkRef)]
        several = [ref for ref in refs if isinstance(ref, SpanRef)]
        found = {("chunk", n): s for n, s in self._summaries(t.chunks.c.summary, singles).items()}
        found |= {("span", n): s for n, s in self._summaries(t.spans.c.data, several).items()}
        return [found["chunk" if isinstance(ref, ChunkRef) else "span", ref.n] for ref in refs]

    def _summaries(self, column: Any, refs: Sequence[Any]) -> dict[int, Summary]:
        run_id = refs[0].run_id if refs else ""
        return self._held(column, [ref.n for ref in refs], unpack_summary, _summary_size, run_id)

    def points(self, refs: Sequence[ChunkRef]) -> list[Columns]:
        """Their points, in the order asked. Raises `ReplacedError`."""
        if not refs:
            return []
        run_id, numbers = refs[0].run_id, sorted({ref.axis for ref in refs})
        axes = self._held(t.axes.c.data, numbers, unpack_axis, _axis_size, run_id)
        with self._readers.connect() as db:
            data = chunks.blobs(db, t.chunks.c.data, [ref.n for ref in refs], run_id)
        if len(data) < len({ref.n for ref in refs}) or not all(data.values()):
            raise ReplacedError  # replaced, or its points were dropped just now
        return [Columns(*axes[ref.axis], unpack_values(data[ref.n])) for ref in refs]

    def kept(self, index: Index, what: Hashable, make: Callable[[], Summary]) -> Summary:
        """What was made of this index under this name; made now if it is not in memory."""
        key = ("made", index.number, what)
        found = self._cache.get(key)
        if found is None:
            found = make()
            self._cache.put(key, found, _summary_size(found))
        return found

    def _held(
        self,
        column: Any,
        numbers: Sequence[int],
        unpack: Callable[[bytes], V],
        size: Callable[[V], int],
        run_id: str,
    ) -> dict[int, V]:
        """Row number → decoded blob, from the cache where possible."""
        table = column.table.name
        found = {n: held for n in numbers if (held := self._cache.get((table, n))) is not None}
        missing = [n for n in dict.fromkeys(numbers) if n not in found]
        if missing:
            with self._readers.connect() as db:
                data = chunks.blobs(db, column, missing, run_id)
            if len(data) < len(missing):
                raise ReplacedError
            for n, blob in data.items():
                found[n] = unpack(blob)
                self._cache.put((table, n), found[n], size(found[n]))
        return found


def _index_of(refs: list[ChunkRef], spans: dict[tuple[int, int], SpanRef], number: int) -> Index:
    clean = all(ref.in_order for ref in refs) and all(
        after.low >= before.high for before, after in itertools.pairwise(refs)
    )
    levels = 1 + max((level for level, _ in spans), default=-1)
    return Index(refs, spans, levels, clean, number)


def _summary_size(summary: Summary) -> int:
    return 8 * len(summary) * len(summary["count"])


def _axis_size(axis: tuple[I64, F64]) -> int:
    return 16 * len(axis[0])
