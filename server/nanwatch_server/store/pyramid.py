"""Buckets of a series on several levels, so that a long range is drawn from few of them. Pure.

A level's buckets are as wide as a power of two in steps and begin at multiples of it, like those
of `buckets`; so buckets of any level merge into those of an answer without loss. On level 0 a
bucket holds about 64 points, on each level above four times as many, and a span has 1,024 of them
on every level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanwatch_server.store.buckets import COLUMNS, F64, I64, bucketed
from nanwatch_server.store.codec import narrowed, pack, unpack

POINTS_A_BUCKET = 64
FAN = 4
"""Buckets of one level in one bucket of the next. An answer merges up to so many times the buckets
that it needs: 16 took a cold chart of a million steps twice as long (decision 0053)."""

SPAN_CHUNKS = 16
"""Chunks under a span of level 0."""

_WHOLE = frozenset(
    ("first_step", "last_step", "min_step", "max_step", "count", "nan", "pinf", "ninf")
)
"""Columns that hold whole numbers (the steps of min and max may be missing)."""

Summary = dict[str, F64]
"""Columns of `buckets.COLUMNS`, one entry per bucket."""


def width_of(points: int, low: int, high: int, level: int = 0) -> int:
    """Width in steps of the buckets on `level` of points that spread evenly over [low, high]."""
    wanted = POINTS_A_BUCKET * FAN**level
    span = high - low + 1
    width = 1
    while width * points < wanted * span and width < 1 << 53:
        width *= 2
    return width


def reach(level: int) -> int:
    """Chunks under one span of `level`."""
    return SPAN_CHUNKS * FAN**level


def summary_of(steps: I64, times: F64, values: F64, width: int) -> Summary:
    """Buckets of points whose steps do not fall."""
    return bucketed(steps, times, values, width)


def merged(parts: Sequence[Summary], width: int) -> Summary:
    """Buckets of `width` from narrower (or equal) ones whose ranges follow each other.

    Exact, but for `sum`, which is added up in another order.
    """
    parts = [part for part in parts if len(part["count"])]
    if not parts:
        return {name: np.empty(0) for name in COLUMNS}
    whole = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    bucket = whole["first_step"] // width
    starts = np.flatnonzero(np.concatenate(([True], bucket[1:] != bucket[:-1])))
    n = len(bucket)
    if len(starts) == n:
        return whole
    return _merge(whole, starts, np.append(starts[1:], n), np.arange(n))


def _merge(whole: Summary, starts: I64, ends: I64, place: I64) -> Summary:
    n = len(place)
    finite = ~np.isnan(whole["first"])
    plain = bool(finite.all())  # nearly always: then nothing has to be left out
    lengths = ends - starts
    if plain:
        first, last = starts, ends - 1
        empty = np.zeros(len(starts), bool)
    else:
        first = np.minimum.reduceat(np.where(finite, place, n), starts)
        empty = first >= n
        first = np.where(empty, starts, first)
        last = np.where(empty, starts, np.maximum.reduceat(np.where(finite, place, -1), starts))

    def or_nan(column: F64) -> F64:
        return column if plain else np.where(empty, np.nan, column)

    result: Summary = {}
    for name, reduce, other in (("min", np.minimum, np.inf), ("max", np.maximum, -np.inf)):
        column = whole[name] if plain else np.where(finite, whole[name], other)
        best = reduce.reduceat(column, starts)
        hits = np.flatnonzero((column == np.repeat(best, lengths)) & finite)
        # The first hit of each bucket; an empty bucket has none and is not looked at.
        where = np.append(hits, n - 1)[np.searchsorted(hits, starts)]
        # The value of the bucket it came from, not `best`: 0.0 and -0.0 are equal.
        result[name] = or_nan(whole[name][where])
        result[f"{name}_step"] = or_nan(whole[f"{name}_step"][where])
    result["first"] = or_nan(whole["first"][first])
    result["last"] = or_nan(whole["last"][last])
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.add.reduceat(
            whole["sum"] if plain else np.where(finite, whole["sum"], 0.0), starts
        )
    result["sum"] = or_nan(total)
    result["first_step"] = whole["first_step"][starts]
    for name in ("last_step", "last_time"):
        result[name] = whole[name][ends - 1]
    for name in ("count", "nan", "pinf", "ninf"):
        column = whole[name]
        result[name] = np.add.reduceat(column, starts) if column.any() else column[starts]
    return {name: result[name] for name in COLUMNS}


def pack_summary(summary: Summary) -> bytes:
    """A summary as one blob. Steps are exact up to 2^53."""
    return pack([_coded(name, summary) for name in COLUMNS])


def _coded(name: str, summary: Summary) -> np.ndarray:
    column = summary[name]
    if name == "last_time":
        return np.rint(column * 1000.0).astype(np.int64)
    if name not in _WHOLE:
        return narrowed(column)
    if name in ("min_step", "max_step"):  # behind the first step, which makes them small
        return np.where(np.isnan(column), -1.0, column - summary["first_step"]).astype(np.int64)
    if name == "last_step":
        column = column - summary["first_step"]
    return column.astype(np.int64)


def unpack_summary(blob: bytes) -> Summary:
    """The summary again. Raises `CodecError`."""
    arrays = dict(zip(COLUMNS, unpack(blob), strict=True))
    first = arrays["first_step"].astype(np.float64)
    result: Summary = {}
    for name, column in arrays.items():
        wide = column.astype(np.float64)
        if name == "last_time":
            wide /= 1000.0
        elif name in ("min_step", "max_step"):
            wide = np.where(wide < 0, np.nan, wide + first)
        elif name == "last_step":
            wide += first
        result[name] = wide
    return result
