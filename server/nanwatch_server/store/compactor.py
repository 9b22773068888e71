"""Moves points from the journal into chunks, and builds the levels above them.

One transaction takes journal rows away and puts their points into chunks, so a crash at any moment
loses and doubles nothing. Rows that the rules have not safely seen stay (`safe_upto`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nanwatch_server.store.buckets import F64, I64
from nanwatch_server.store.chunks import CHUNK_POINTS, ChunkRef, FreshChunk, FreshSpan
from nanwatch_server.store.codec import pack_axis, pack_values
from nanwatch_server.store.history import Columns, History, Index
from nanwatch_server.store.pyramid import (
    FAN,
    SPAN_CHUNKS,
    Summary,
    merged,
    pack_summary,
    reach,
    summary_of,
    unpack_summary,
    width_of,
)
from nanwatch_server.store.replay import Points, joined, replay, tables_of

if TYPE_CHECKING:
    from nanwatch_server.store.sql import SqlStore
    from nanwatch_server.store.tail import Tail

PASS_POINTS = 2_000_000
"""Points of the journal in one transaction, which bounds memory and the writer's pause."""


@dataclass
class _Work:
    """Everything one transaction writes."""

    upto: int = 0
    rows: list[int] = field(default_factory=list)
    """Journal rows whose points are here."""
    points: int = 0
    old: list[ChunkRef] = field(default_factory=list)
    axes: list[bytes] = field(default_factory=list)
    chunks: list[FreshChunk] = field(default_factory=list)
    spans: list[FreshSpan] = field(default_factory=list)
    series: set[int] = field(default_factory=set)


def compact(
    store: SqlStore, history: History, tail: Tail, run_id: str, safe_upto: int
) -> tuple[int, bool]:
    """Move one transaction's worth. (points moved, True if more is waiting)."""
    work, tables, more = _Work(), [], False
    for committed in replay(store, run_id, history.upto(run_id)):
        if committed.row > safe_upto:
            break
        if work.points >= PASS_POINTS:
            more = True
            break
        found = tables_of(committed)
        tables += found
        work.points += sum(table.values.size for table in found)
        work.rows.append(committed.row)
        work.upto = committed.row
    if not work.rows:
        return 0, False
    _fill(work, history, joined(tables), run_id)

    def commit() -> None:
        with store.write(bulk=True) as uow:
            uow.compact(run_id, work.upto, work.rows, work.old, work.axes, work.chunks, work.spans)

    tail.compacted(run_id, work.upto, work.series, commit)
    return work.points, more


# --- chunks ------------------------------------------------------------------------------------


def _fill(work: _Work, history: History, tables: list[Points], run_id: str) -> None:
    parts: dict[int, list[tuple[I64, F64, F64]]] = {}
    for points in tables:
        for one, values in zip(points.series, points.values, strict=True):
            parts.setdefault(one.id, []).append((points.steps, points.times, values))
    work.series = set(parts)
    last = history.last(sorted(parts), run_id)
    opened = [ref for ref in last.values() if not ref.full]
    held = dict(zip((ref.series_id for ref in opened), history.points(opened), strict=True))
    work.old = opened
    alike: dict[tuple[int, ...], list[int]] = {}
    for series_id, mine in parts.items():
        # The same arrays and the same open axis: the same steps and times, told without looking.
        ref = last.get(series_id)
        axis = ref.axis if ref is not None and series_id in held else -1
        alike.setdefault((axis, *(id(steps) for steps, _, _ in mine)), []).append(series_id)
    for members in alike.values():
        _chunk_group(work, members, parts, held, last)
    _span_group(work, history, run_id)


def _chunk_group(
    work: _Work,
    members: list[int],
    parts: dict[int, list[tuple[I64, F64, F64]]],
    held: dict[int, Columns],
    last: dict[int, ChunkRef],
) -> None:
    """Series with one axis: cut it once, code it once."""
    first = members[0]
    before = [held[first]] if first in held else []
    steps = np.concatenate([*(one.steps for one in before), *(p[0] for p in parts[first])])
    times = np.concatenate([*(one.times for one in before), *(p[1] for p in parts[first])])
    values = {
        one: np.concatenate(
            [*([held[one].values] if one in held else []), *(p[2] for p in parts[one])]
        )
        for one in members
    }
    for number, start in enumerate(range(0, len(steps), CHUNK_POINTS)):
        cut = slice(start, start + CHUNK_POINTS)
        axis, at = steps[cut], times[cut]
        in_order = bool((axis[1:] >= axis[:-1]).all())
        low, high = int(axis.min()), int(axis.max())
        width = width_of(len(axis), low, high)
        order = slice(None) if in_order else np.argsort(axis, kind="stable")
        work.axes.append(pack_axis(axis, at))
        for one in members:
            ref = last.get(one)
            base = 0 if ref is None else ref.seq + (1 if ref.full else 0)
            mine = values[one][cut]
            summary = summary_of(axis[order], at[order], mine[order], width)
            work.chunks.append(
                FreshChunk(
                    series_id=one,
                    seq=base + number,
                    points=len(axis),
                    low=low,
                    high=high,
                    in_order=in_order,
                    axis=len(work.axes) - 1,
                    width=width,
                    summary=pack_summary(summary),
                    data=pack_values(mine),
                )
            )


# --- spans -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """A full chunk or a span, wherever its summary lies."""

    low: int
    high: int
    width: int
    in_order: bool
    load: Callable[[], Summary]


def _span_group(work: _Work, history: History, run_id: str) -> None:
    """Spans that the fresh full chunks complete."""
    fresh: dict[int, dict[int, FreshChunk]] = {}
    for chunk in work.chunks:
        if chunk.points >= CHUNK_POINTS:
            fresh.setdefault(chunk.series_id, {})[chunk.seq] = chunk
    wanted = {one: s for one, s in fresh.items() if any((seq + 1) % SPAN_CHUNKS == 0 for seq in s)}
    indexes = history.index(list(wanted), run_id)
    for series_id, ours in wanted.items():
        pieces = _chunk_pieces(history, indexes[series_id], ours)
        made: dict[tuple[int, int], _Piece] = {}
        for seq in sorted(ours):
            level = 0
            while (seq + 1) % reach(level) == 0:
                first = seq + 1 - reach(level)
                inner = _inner(history, indexes[series_id], level, first, pieces, made)
                span = _span(series_id, level, first, inner)
                if span is None:
                    break
                work.spans.append(span[0])
                made[level, first] = span[1]
                level += 1


def _chunk_pieces(
    history: History, index: Index, fresh: dict[int, FreshChunk]
) -> dict[int, _Piece]:
    first = min(fresh) - min(fresh) % SPAN_CHUNKS
    pieces = {
        ref.seq: _Piece(
            ref.low,
            ref.high,
            ref.width,
            ref.in_order,
            lambda ref=ref: history.summaries([ref])[0],
        )
        for ref in index.chunks
        if ref.full and ref.seq >= first
    }
    for seq, chunk in fresh.items():
        pieces[seq] = _Piece(
            chunk.low,
            chunk.high,
            chunk.width,
            chunk.in_order,
            lambda chunk=chunk: unpack_summary(chunk.summary),
        )
    return pieces


def _inner(
    history: History,
    index: Index,
    level: int,
    first: int,
    pieces: dict[int, _Piece],
    made: dict[tuple[int, int], _Piece],
) -> list[_Piece | None]:
    """The pieces under a span: chunks, or spans of the level below."""
    if level == 0:
        return [pieces.get(first + i) for i in range(SPAN_CHUNKS)]
    below = reach(level - 1)
    found: list[_Piece | None] = []
    for place in range(first, first + FAN * below, below):
        piece, known = made.get((level - 1, place)), index.spans.get((level - 1, place))
        if piece is None and known is not None:
            piece = _Piece(
                known.low,
                known.high,
                known.width,
                True,
                lambda known=known: history.summaries([known])[0],
            )
        if piece is None:  # made before levels grew by four: what lies under it will do
            found += _inner(history, index, level - 1, place, pieces, made)
        else:
            found.append(piece)
    return found


def _span(
    series_id: int, level: int, first: int, inner: list[_Piece | None]
) -> tuple[FreshSpan, _Piece] | None:
    """One span, or None where steps went back: such a range is read from its chunks."""
    pieces = [piece for piece in inner if piece is not None and piece.in_order]
    if len(pieces) < len(inner) or any(b.low < a.high for a, b in itertools.pairwise(pieces)):
        return None
    low, high = pieces[0].low, pieces[-1].high
    points = CHUNK_POINTS * reach(level)
    width = max(width_of(points, low, high, level), *(piece.width for piece in pieces))
    summary = merged([piece.load() for piece in pieces], width)
    fresh = FreshSpan(series_id, level, first, low, high, width, pack_summary(summary))
    return fresh, _Piece(low, high, width, True, lambda: summary)
