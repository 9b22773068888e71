"""Turns what probes saw into tables: rows of one step each become columns of many.

The training thread only appends to a bounded deque; everything else happens on the background
thread. Knows nothing of sockets or files; `link.worker` calls it.
"""

from __future__ import annotations

import struct
import sys
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from nanwatch.contract.frames import Mark, NonFinite, Record, SeriesDecl, Table
from nanwatch.contract.kinds import KINDS
from nanwatch.contract.limits import (
    SERIES_PER_RUN_MAX,
    TABLE_ROWS_MAX,
    TABLE_SERIES_MAX,
    to_name,
)
from nanwatch.guard import GUARD, guarded

PENDING_MAX = 100_000
"""Observations waiting for the background thread; beyond that the newest are dropped, counted."""

QUEUE_FULL = "queue full"
TOO_MANY_SERIES = "too many series"

TOP_BYTE = 7 if sys.byteorder == "little" else 0

TABLE_VALUES_MAX = 1 << 15
"""Values in one table: 256 KiB, so that a frame stays well below its limit."""


@dataclass(slots=True)
class Row:
    """Values of several series at one step."""

    step: int
    time: float
    ids: tuple[int, ...]
    values: list[float]
    source: str = ""
    """Who measured it: rows of one source keep their order, sources own different series."""


@dataclass(slots=True)
class Catalog:
    """Series of this process: (kind, scope, layer, stage) → id. Background thread only."""

    ids: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    fresh: list[SeriesDecl] = field(default_factory=list)
    refused: int = 0
    """Points of series that were refused, since someone last looked."""

    def id_of(self, kind: str, scope: str = "", layer: str = "", stage: str = "train") -> int:
        """Id of a series, declared when first asked for; -1 if there are too many.

        Whoever leaves out a point because of -1 adds it to `refused`.
        """
        key = (kind, scope, layer, stage)
        found = self.ids.get(key)
        if found is not None:
            return found
        if len(self.ids) >= SERIES_PER_RUN_MAX:
            return -1
        number = self.ids[key] = len(self.ids)
        self.fresh.append(SeriesDecl(number, kind, scope, layer, stage))
        return number

    def take_fresh(self) -> list[SeriesDecl]:
        """Declarations made since the last call."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def all(self) -> list[SeriesDecl]:
        """Every declaration."""
        return [
            SeriesDecl(number, kind, scope, layer, stage)
            for (kind, scope, layer, stage), number in self.ids.items()
        ]


class Observation(Protocol):
    """What a probe hands over; both methods are called on the background thread."""

    def ready(self) -> bool:
        """True once the device has delivered the values."""
        ...

    def rows(self, catalog: Catalog) -> Iterable[Row | Mark | NonFinite | tuple[Any, ...]]:
        """What to record, in order; tuples go to the `Reader`."""
        ...


class Reader(Protocol):
    """Makes records of the plain tuples that the quickest of all callers hands over."""

    def records(self, entries: list[tuple[Any, ...]], catalog: Catalog) -> Iterable[Record]:
        """What to record, the entries of each series in order; background thread."""
        ...


class Recorder:
    """Bounded hand-over from the training thread to the background thread.

    What is handed over is an `Observation`, or a tuple of plain values for the one `reader`: a
    tuple costs a tenth of an object, and the collector of cycles does not follow it.
    """

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.pending: deque[Observation | tuple[Any, ...]] = deque()
        """Seen and not yet drained; whoever appends looks at `PENDING_MAX`, as `put` does."""
        self.reader: Reader | None = None
        self.samplers: list[Callable[[], None]] = []
        """Called before each drain, on its thread: they look whether it is time to `put`."""
        self.taps: list[Callable[[list[Record]], list[Record]]] = []
        """Shown all that a drain gives, on its thread; what they return goes out after it."""
        self.dropped: dict[str, int] = {}
        self._count_lock = threading.Lock()

    def put(self, observation: Observation | tuple[Any, ...], points: int = 1) -> None:
        """Append an observation of `points` points. Never blocks or raises."""
        if len(self.pending) >= PENDING_MAX:
            self.count_drop(QUEUE_FULL, points)
            return
        self.pending.append(observation)

    def count_drop(self, reason: str, points: int = 1) -> None:
        """Count points that will never be sent."""
        with self._count_lock:
            self.dropped[reason] = self.dropped.get(reason, 0) + points

    @property
    def backlog(self) -> int:
        """Observations not yet turned into records."""
        return len(self.pending)

    def drain(self, final: bool = False) -> list[Record]:
        """Everything seen so far as records, in order. Background thread only.

        An observation whose device values are not there yet holds back those after it, so that
        order is kept; with `final` it is waited for.
        """
        for sample in tuple(self.samplers):
            guarded("sampler", sample)
        pending = self.pending
        if not pending and not final:
            return []
        segment = _Segment(self)
        while pending:
            head = pending[0]
            if type(head) is tuple:
                segment.entries.append(pending.popleft())  # type: ignore[arg-type]
                continue
            if not final and not head.ready():  # type: ignore[union-attr]
                break
            pending.popleft()
            try:
                for item in head.rows(self.catalog):  # type: ignore[union-attr]
                    if isinstance(item, Row):
                        segment.rows.append(item)
                    elif type(item) is tuple:
                        segment.entries.append(item)
                    else:
                        segment.close()
                        segment.records.append(item)  # type: ignore[arg-type]
            except Exception as error:
                self.count_drop("internal error")
                GUARD.note("record", error)
        segment.close()
        if self.catalog.refused:
            refused, self.catalog.refused = self.catalog.refused, 0
            self.count_drop(TOO_MANY_SERIES, refused)
        for tap in tuple(self.taps):
            segment.records.extend(guarded("tap", tap, segment.records) or [])
        return segment.records


class _Segment:
    """Rows and entries between two marks: sources own different series, so that only what
    belongs to one source must stay in order."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.rows: list[Row] = []
        self.entries: list[tuple[Any, ...]] = []
        self.records: list[Record] = []

    def close(self) -> None:
        """Make tables of what is here."""
        if self.rows:
            rows, self.rows = self.rows, []
            self.records.extend(tables(rows))
        if self.entries:
            entries, self.entries = self.entries, []
            try:
                reader = self._recorder.reader
                assert reader is not None
                self.records.extend(reader.records(entries, self._recorder.catalog))
            except Exception as error:
                self._recorder.count_drop("internal error", len(entries))
                GUARD.note("record", error)


def tables(rows: list[Row]) -> list[Table]:
    """Rows of one source with the same series, one after another, become one table."""
    sources: dict[str, list[Row]] = {}
    for row in rows:
        sources.setdefault(row.source, []).append(row)
    return [table for ordered in sources.values() for table in _consecutive(ordered)]


def _consecutive(rows: list[Row]) -> list[Table]:
    made: list[Table] = []
    start = 0
    for i in range(1, len(rows) + 1):
        full = (i - start) * len(rows[start].ids) >= TABLE_VALUES_MAX or i - start >= TABLE_ROWS_MAX
        if i == len(rows) or rows[i].ids != rows[start].ids or full:
            made.extend(_tables_of(rows[start:i]))
            start = i
    return made


def _tables_of(rows: list[Row]) -> Iterable[Table]:
    """Rows with the same series as one table, or several if there are very many series."""
    pack = row_of(len(rows[0].ids)).pack
    return tables_of(rows[0].ids, [pack(row.step, row.time, *row.values) for row in rows])


@lru_cache(maxsize=1024)
def row_of(k: int) -> struct.Struct:
    """One packed row: step i64, time f64, k values f64. Packing is one call for all of them, and
    raises `struct.error` for a whole number beyond float64."""
    return struct.Struct(f"qd{k}d")


def surely_finite(rows: list[bytes]) -> bool:
    """False if a value of these packed rows is NaN or infinite, or might be: beyond 1e303."""
    tops = b"".join(rows)[TOP_BYTE::8]  # sign and the first seven bits of the exponent
    return b"\x7f" not in tops and b"\xff" not in tops


def tables_of(ids: tuple[int, ...], rows: list[bytes]) -> Iterable[Table]:
    """Rows packed by `row_of(k)` as one table, or several if there are very many series.

    No Python per point: the interpreter belongs to the training thread meanwhile.
    """
    k, width = len(ids), len(ids) + 2
    raw = array("d", b"".join(rows))  # the steps are bits of i64 here, and stay that
    steps, times = raw[0::width].tobytes(), raw[1::width].tobytes()
    made: list[Table] = []
    for low in range(0, k, TABLE_SERIES_MAX):
        high = min(low + TABLE_SERIES_MAX, k)
        if len(rows) == 1:
            values = raw[2 + low : 2 + high].tobytes()
        else:
            values = b"".join([raw[2 + column :: width].tobytes() for column in range(low, high)])
        made.append(Table(ids=list(ids[low:high]), steps=steps, times=times, values=values))
    return made


def series_key(name: str, scope: str) -> tuple[str, str, str]:
    """(kind, scope, layer) of a logged name.

    `kl` is the kind; `q1.q_mean` is kind `q_mean` of scope `q1`; anything else is `custom`.
    """
    if name in KINDS:
        return name, scope, ""
    prefix, dot, last = name.rpartition(".")
    if dot and last in KINDS:
        return last, to_name(prefix), ""
    return "custom", scope, to_name(name)
