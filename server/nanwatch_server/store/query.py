"""Answers a range of one series from its chunks and its newest points. Deterministic.

As they are if the points are few, else in buckets: from the widest summaries that fit, and from
the points themselves at the edges of the range and wherever steps went back.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nanwatch_server.store.buckets import F64, bucketed, width_for
from nanwatch_server.store.chunks import ChunkRef, SpanRef
from nanwatch_server.store.history import Columns, History, Index
from nanwatch_server.store.pyramid import Summary, merged, reach

CLUSTER_POINTS = 1 << 22
"""Points in memory at once where steps went back and points must be sorted."""


class Answer(NamedTuple):
    """Points of a series in a range: `raw` if they are few, else `buckets`."""

    raw: Columns | None
    buckets: dict[str, F64] | None
    dropped: bool = False
    """True if retention has taken some of these points: then there are buckets even of few, and
    some of them may be wider than asked."""


@dataclass(frozen=True, slots=True)
class Newest:
    """Points that are not in chunks yet, in order of arrival."""

    columns: Columns
    in_order: bool

    @property
    def low(self) -> int:
        """Least step."""
        steps = self.columns.steps
        return int(steps[0] if self.in_order else steps.min())

    @property
    def high(self) -> int:
        """Greatest step."""
        steps = self.columns.steps
        return int(steps[-1] if self.in_order else steps.max())


Segment = ChunkRef | Newest


def answer(
    history: History, index: Index, newest: Newest, x0: int | None, x1: int | None, buckets: int
) -> Answer:
    """Points with x0 ≤ step ≤ x1: as they are if at most `buckets`, else buckets of them.

    Raises `ReplacedError` if a chunk of the index is no more.
    """
    low, high = (-1 if x0 is None else x0), ((1 << 62) if x1 is None else x1)
    segments: list[Segment] = [one for one in index.chunks if one.high >= low and one.low <= high]
    if len(newest.columns.steps) and newest.high >= low and newest.low <= high:
        segments.append(newest)
    inside = sum(_points(one) for one in segments if one.low >= low and one.high <= high)
    dropped = any(_dropped(one) for one in segments)
    if inside <= buckets and not dropped:
        whole = _sorted(_columns(history, segments))
        whole = _cut(whole, low, high)
        if len(whole.steps) <= buckets:
            return Answer(whole, None)
        width = _width(whole.steps[0], whole.steps[-1], x0, x1, buckets)
        return Answer(None, bucketed(*whole, width))
    first = min(one.low for one in segments)
    last = max(one.high for one in segments)
    width = _width(first, last, x0, x1, buckets)
    return Answer(None, _bucketed(history, index, segments, low, high, width), dropped)


def _dropped(segment: Segment) -> bool:
    return isinstance(segment, ChunkRef) and segment.dropped


def _width(first: int, last: int, x0: int | None, x1: int | None, buckets: int) -> int:
    return width_for(int(first) if x0 is None else x0, int(last) if x1 is None else x1, buckets)


def _points(segment: Segment) -> int:
    if isinstance(segment, ChunkRef):
        return segment.points
    return len(segment.columns.steps)


def _columns(history: History, segments: Sequence[Segment]) -> Columns:
    """Points of all segments, one behind the other."""
    read = iter(history.points([one for one in segments if isinstance(one, ChunkRef)]))
    parts = [next(read) if isinstance(one, ChunkRef) else one.columns for one in segments]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Columns(np.empty(0, np.int64), np.empty(0), np.empty(0))
    return Columns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _sorted(columns: Columns) -> Columns:
    """By step; points of one step keep their order of arrival."""
    if bool((columns.steps[1:] >= columns.steps[:-1]).all()):
        return columns
    return columns.pick(np.argsort(columns.steps, kind="stable"))


def _cut(columns: Columns, low: int, high: int) -> Columns:
    start = int(np.searchsorted(columns.steps, low, "left"))
    stop = int(np.searchsorted(columns.steps, high, "right"))
    return columns.pick(slice(start, stop))


# --- buckets -----------------------------------------------------------------------------------


def _bucketed(
    history: History, index: Index, segments: list[Segment], low: int, high: int, width: int
) -> Summary:
    """Buckets of all segments; what comes of the chunks is remembered, for the next reload."""
    newest = [one for one in segments if isinstance(one, Newest)]
    past: list[Segment] = [one for one in segments if isinstance(one, ChunkRef)]
    reach = max((one.high for one in past), default=0)
    if not past or any(one.low < reach for one in newest):
        return merged(_parts(history, index, segments, low, high, width), width)
    kept = history.kept(
        index,
        (low, high, width),
        lambda: merged(_parts(history, index, past, low, high, width), width),
    )
    if not newest:
        return kept
    return merged([kept, *_from_points(history, list(newest), low, high, width)], width)


def _parts(
    history: History, index: Index, segments: list[Segment], low: int, high: int, width: int
) -> list[Summary]:
    parts: list[Summary] = []
    clean: list[ChunkRef | SpanRef] = []
    # A span must not reach over newest points that went back among its chunks.
    newest = [one.low for one in segments if isinstance(one, Newest)]
    most = min([high, *newest])

    def flush() -> None:
        if clean:
            parts.extend(history.summaries(clean))
            clean.clear()

    for cluster in _clusters(segments):
        alone = cluster[0]
        whole = len(cluster) == 1 and alone.low >= low and alone.high <= high
        if whole and isinstance(alone, ChunkRef) and alone.in_order and alone.width <= width:
            _append(clean, alone, index, low, most, width)
            continue
        flush()
        parts += _from_points(history, cluster, low, high, width)
    flush()
    return parts


def _clusters(segments: list[Segment]) -> list[list[Segment]]:
    """Segments whose ranges overlap belong together; the groups follow each other in steps."""
    clusters: list[list[Segment]] = []
    reach = -1
    for one in sorted(segments, key=lambda one: one.low):  # stable: equal ones as they arrived
        if clusters and one.low < reach:
            clusters[-1].append(one)
        else:
            clusters.append([one])
        reach = max(reach, one.high)
    return clusters


def _append(
    clean: list[ChunkRef | SpanRef], chunk: ChunkRef, index: Index, low: int, high: int, width: int
) -> None:
    """The chunk's own summary, or a span that covers it, once."""
    last = clean[-1] if clean else None
    if isinstance(last, SpanRef) and chunk.seq < last.first + reach(last.level):
        return
    for level in reversed(range(index.levels if index.clean else 0)):
        span = index.spans.get((level, chunk.seq - chunk.seq % reach(level)))
        if (
            span is not None
            and chunk.seq == span.first
            and span.width <= width
            and span.low >= low
            and span.high <= high
        ):
            clean.append(span)
            return
    clean.append(chunk)


def _from_points(
    history: History, cluster: list[Segment], low: int, high: int, width: int
) -> list[Summary]:
    """Buckets of the points themselves, in windows of steps so that memory stays bounded."""
    gone = [one for one in cluster if isinstance(one, ChunkRef) and one.dropped]
    if gone:
        return _with_dropped(history, cluster, gone, low, high, width)
    if len(cluster) > 1:
        # Chunks lie in order of arrival, also among the equal steps of one bucket.
        cluster = sorted(cluster, key=lambda one: one.seq if isinstance(one, ChunkRef) else 1 << 62)
    parts: list[Summary] = []
    for start, stop in _windows(cluster, low, high, width):
        some = [one for one in cluster if one.low <= stop and one.high >= start]
        columns = _cut(_sorted(_columns(history, some)), start, stop)
        if len(columns.steps):
            parts.append(bucketed(*columns, width))
    return parts


def _with_dropped(
    history: History,
    cluster: list[Segment],
    gone: list[ChunkRef],
    low: int,
    high: int,
    width: int,
) -> list[Summary]:
    """Of chunks without points their summaries, as they are: every bucket that meets the range."""
    rest = [one for one in cluster if not _dropped(one)]
    parts = _from_points(history, rest, low, high, width) if rest else []
    for summary in history.summaries(gone):
        inside = (summary["last_step"] >= low) & (summary["first_step"] <= high)
        parts.append({name: column[inside] for name, column in summary.items()})
    parts = [part for part in parts if len(part["count"])]
    if not parts:
        return []
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(whole["first_step"], kind="stable")
    return [{name: column[order] for name, column in whole.items()}]


def _windows(cluster: list[Segment], low: int, high: int, width: int) -> list[tuple[int, int]]:
    """Ranges of steps, cut at bucket edges, of about `CLUSTER_POINTS` points each."""
    first = max(low, min(one.low for one in cluster))
    last = min(high, max(one.high for one in cluster))
    pieces = 1 + sum(_points(one) for one in cluster) // CLUSTER_POINTS
    length = max(1, -(-(last - first + 1) // pieces))
    length = -(-length // width) * width
    edges = [first, *range((first // width) * width + length, last + 1, length), last + 1]
    return [(a, b - 1) for a, b in itertools.pairwise(edges)]
