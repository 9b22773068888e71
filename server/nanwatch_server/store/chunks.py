"""Rows of chunks, axes and spans: what `compactor` writes and `history` reads. SQL only.

A chunk is never changed. One that was not full is replaced by a fuller one under the same number
`seq`, in the transaction that takes the points out of the journal. Who names the run of what is
read lets PostgreSQL look into one partition only (decision 0023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    bindparam,
    delete,
    select,
)

from nanwatch_server.store import tables as t

T = TypeVar("T")

CHUNK_POINTS = 4_096
"""Points of a full chunk (design 7)."""

DROPPED = 0
"""Number of no axis: that of a chunk whose points were dropped."""

IDS_A_QUERY = 500
"""Most values in one `IN (…)`."""


class ChunkRef(NamedTuple):
    """Where a chunk's points lie, and which (a tuple: a long series has hundreds of them)."""

    n: int
    """Row number; a chunk that was replaced has another."""
    series_id: int
    seq: int
    points: int
    low: int
    high: int
    """Least and greatest step."""
    in_order: bool
    axis: int
    width: int
    """Steps per bucket of its summary."""
    run_id: str = ""
    """Empty if whoever asked did not say."""

    @property
    def dropped(self) -> bool:
        """True if retention has taken the points; the summary is there."""
        return self.axis == DROPPED

    @property
    def full(self) -> bool:
        """True if no point will ever be added."""
        return self.points >= CHUNK_POINTS or self.dropped


class SpanRef(NamedTuple):
    """Summary of several full chunks."""

    n: int
    series_id: int
    level: int
    first: int
    low: int
    high: int
    width: int
    run_id: str = ""


@dataclass(slots=True)
class FreshChunk:
    """A chunk to be written; `axis` is its place among the fresh axes."""

    series_id: int
    seq: int
    points: int
    low: int
    high: int
    in_order: bool
    axis: int
    width: int
    summary: bytes
    data: bytes


@dataclass(slots=True)
class FreshSpan:
    """A span to be written."""

    series_id: int
    level: int
    first: int
    low: int
    high: int
    width: int
    data: bytes


_REF = (
    t.chunks.c.n,
    t.chunks.c.series_n,
    t.chunks.c.seq,
    t.chunks.c.points,
    t.chunks.c.low,
    t.chunks.c.high,
    t.chunks.c.in_order,
    t.chunks.c.axis_n,
    t.chunks.c.width,
)

_SPAN = (
    t.spans.c.n,
    t.spans.c.series_n,
    t.spans.c.level,
    t.spans.c.first,
    t.spans.c.low,
    t.spans.c.high,
    t.spans.c.width,
)


def _ref(row: Row, run_id: str) -> ChunkRef:
    n, series_id, seq, points, low, high, in_order, axis, width = row
    return ChunkRef(n, series_id, seq, points, low, high, bool(in_order), axis, width, run_id)


def _of_run(table: FromClause, run_id: str) -> list[ColumnElement[bool]]:
    return [table.c.run_id == run_id] if run_id else []


def batches(ids: Sequence[T]) -> list[Sequence[T]]:
    """In pieces that fit into one `IN (…)`."""
    return [ids[i : i + IDS_A_QUERY] for i in range(0, len(ids), IDS_A_QUERY)]


@cache
def _asked(columns: tuple[Any, ...], key: Any, of_run: bool, *order: Any) -> Select:
    """Rows whose `key` is one of `:asked`, perhaps of a run. Made once: putting a statement
    together takes as long as running it."""
    mine = [key.table.c.run_id == bindparam("run_id")] if of_run else []
    query = select(*columns).where(key.in_(bindparam("asked", expanding=True)), *mine)
    return query.order_by(*order)


def _rows(
    db: Connection,
    columns: tuple[Any, ...],
    key: Any,
    asked: Sequence[int],
    run_id: str,
    *order: Any,
) -> list[Row]:
    query = _asked(columns, key, bool(run_id), *order)
    mine = {"run_id": run_id} if run_id else {}
    rows: list[Row] = []
    for some in batches(asked):
        rows += db.execute(query, {"asked": list(some), **mine}).all()
    return rows


def refs_of(db: Connection, series_ids: Sequence[int], run_id: str = "") -> list[ChunkRef]:
    """Chunks of these series, by series and then in order."""
    series, order = t.chunks.c.series_n, (t.chunks.c.series_n, t.chunks.c.seq)
    return [_ref(row, run_id) for row in _rows(db, _REF, series, series_ids, run_id, *order)]


def last_refs(db: Connection, series_ids: Sequence[int], run_id: str = "") -> dict[int, ChunkRef]:
    """Series → its newest chunk."""
    newest = t.chunks.alias()
    later = select(newest.c.n).where(
        newest.c.series_n == t.chunks.c.series_n,
        newest.c.seq > t.chunks.c.seq,
        newest.c.run_id == t.chunks.c.run_id,
        *_of_run(newest, run_id),
    )
    found: dict[int, ChunkRef] = {}
    for ids in batches(series_ids):
        mine = _of_run(t.chunks, run_id)
        query = select(*_REF).where(t.chunks.c.series_n.in_(ids), ~later.exists(), *mine)
        found.update((row.series_n, _ref(row, run_id)) for row in db.execute(query))
    return found


def spans_of(db: Connection, series_ids: Sequence[int], run_id: str = "") -> list[SpanRef]:
    """Spans of these series."""
    rows = _rows(db, _SPAN, t.spans.c.series_n, series_ids, run_id)
    return [SpanRef._make((*row, run_id)) for row in rows]


def blobs(
    db: Connection, column: Any, numbers: Sequence[int], run_id: str = ""
) -> dict[int, bytes]:
    """Row number → blob, of those that still exist. `column` names table and column."""
    key = column.table.c.n
    return {row[0]: row[1] for row in _rows(db, (key, column), key, numbers, run_id)}


def replace(
    db: Connection,
    run_id: str,
    old: Sequence[ChunkRef],
    axes: Sequence[bytes],
    fresh: Sequence[FreshChunk],
) -> None:
    """Take `old` chunks away, with axes that no chunk needs any more, and put `fresh` ones in."""
    for numbers in batches([chunk.n for chunk in old]):
        mine = (t.chunks.c.n.in_(numbers)) & (t.chunks.c.run_id == run_id)
        db.execute(delete(t.chunks).where(mine))
    for numbers in batches(sorted({chunk.axis for chunk in old})):
        used = select(t.chunks.c.n).where(
            t.chunks.c.axis_n == t.axes.c.n, t.chunks.c.run_id == run_id
        )
        mine = (t.axes.c.n.in_(numbers)) & (t.axes.c.run_id == run_id)
        db.execute(delete(t.axes).where(mine, ~used.exists()))
    numbers_of = [
        db.execute(t.axes.insert().values(run_id=run_id, data=data)).inserted_primary_key[0]  # type: ignore[index]
        for data in axes
    ]
    if fresh:
        db.execute(
            t.chunks.insert(),
            [
                {
                    "run_id": run_id,
                    "series_n": one.series_id,
                    "seq": one.seq,
                    "points": one.points,
                    "low": one.low,
                    "high": one.high,
                    "in_order": int(one.in_order),
                    "axis_n": numbers_of[one.axis],
                    "width": one.width,
                    "summary": one.summary,
                    "data": one.data,
                }
                for one in fresh
            ],
        )


def add_spans(db: Connection, run_id: str, fresh: Sequence[FreshSpan]) -> None:
    """Put spans in."""
    rows = [
        {
            "run_id": run_id,
            "series_n": one.series_id,
            "level": one.level,
            "first": one.first,
            "low": one.low,
            "high": one.high,
            "width": one.width,
            "data": one.data,
        }
        for one in fresh
    ]
    if rows:
        db.execute(t.spans.insert(), rows)
