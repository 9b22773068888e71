"""Journal rows back to records: for the tail's first use and for rebuilding the rules' state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import structlog

from nanwatch.contract.frames import (
    Batch,
    FrameError,
    Record,
    Table,
    decode_client,
    table_shape,
)
from nanwatch_server.domain.models import JournalRow, Series, Stream
from nanwatch_server.domain.points import Points
from nanwatch_server.store.codec import milliseconds

__all__ = ["Committed", "Points", "joined", "points_of", "replay", "tables_of"]

_log = structlog.get_logger()


class Committed(NamedTuple):
    """Records that are on disk, in commit order."""

    row: int
    """Number of the journal row."""
    stream: Stream
    lane: str
    records: list[Record]
    series: dict[int, Series]
    """Wire id → Series of the stream; may hold more than these records use."""


def points_of(table: Table, series: dict[int, Series]) -> Points:
    """Views of a table's blocks (f32 is widened). Raises `KeyError` for an undeclared id."""
    k, n = table_shape(table)
    values = np.frombuffer(table.values, "<f8" if table.dtype == "f8" else "<f4").reshape(k, n)
    return Points(
        tuple(series[wire_id] for wire_id in table.ids),
        np.frombuffer(table.steps, "<i8"),
        # As they will be once they are in chunks: the same picture before and after.
        milliseconds(np.frombuffer(table.times, "<f8")) / 1000.0,
        values.astype(np.float64, copy=False),
    )


def tables_of(committed: Committed) -> list[Points]:
    """Its tables, decoded."""
    records = committed.records
    return [points_of(one, committed.series) for one in records if isinstance(one, Table)]


def joined(tables: Sequence[Points]) -> list[Points]:
    """The same points in fewer, longer tables; those of each series keep their order.

    Tables of the same series become one, unless one that shares some of them stands between.
    """
    done: list[Points] = []
    waiting: dict[tuple[int, ...], list[Points]] = {}
    for points in tables:
        key = tuple(series.id for series in points.series)
        if key not in waiting:
            ids = set(key)
            for other in [known for known in waiting if not ids.isdisjoint(known)]:
                done.append(_one(waiting.pop(other)))
        waiting.setdefault(key, []).append(points)
    return done + [_one(parts) for parts in waiting.values()]


def _one(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    return Points(
        parts[0].series,
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts], axis=1),
    )


class Journal(Protocol):
    """What a replay reads; the store has it, and a moment of it."""

    def journal(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 256
    ) -> list[JournalRow]: ...
    def declarations(self, stream: Stream) -> dict[int, Series]: ...


def replay(
    store: Journal, run_id: str, after: int = 0, before: int | None = None
) -> Iterator[Committed]:
    """Everything stored for the run behind journal row `after`, in commit order, up to the row
    ahead of `before`.

    A row that cannot be read (the disk has changed it) is left out with a line in the log.
    """
    known: dict[Stream, dict[int, Series]] = {}
    while rows := store.journal(run_id, after=after, before=before):
        for row in rows:
            after = row.id
            if row.stream not in known:
                known[row.stream] = store.declarations(row.stream)
            try:
                frame = decode_client(row.frame)
                if not isinstance(frame, Batch):
                    raise FrameError("expected a batch")
                committed = Committed(
                    row.id, row.stream, row.lane, frame.records, known[row.stream]
                )
                tables_of(committed)
            except (FrameError, KeyError, ValueError) as error:
                _log.error(
                    "a journal row cannot be read", run=run_id, row=row.id, error=repr(error)
                )
                continue
            yield committed
