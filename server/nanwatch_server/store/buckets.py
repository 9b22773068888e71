"""Cuts a series down for the screen: min/max buckets, vectorised and deterministic. Pure.

Buckets have a width that is a power of two and begin at multiples of it, so that the same range
always gives the same picture and new points change only the last bucket.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

COLUMNS = (
    "first_step",
    "last_step",
    "last_time",
    "min",
    "max",
    "min_step",
    "max_step",
    "first",
    "last",
    "sum",
    "count",
    "nan",
    "pinf",
    "ninf",
)
"""Columns of a bucket; min, max, first, last and sum are over finite values (NaN without one);
`count` is of all points."""


def width_for(x0: int, x1: int, buckets: int) -> int:
    """Smallest power of two that cuts [x0, x1] into at most `buckets` buckets."""
    width = 1
    while x1 // width - x0 // width + 1 > max(buckets, 2):
        width *= 2
    return width


def bucketed(steps: I64, times: F64, values: F64, width: int) -> dict[str, F64]:
    """Buckets of points whose steps do not fall; every column has one entry per bucket."""
    if not len(steps):
        return {name: np.empty(0) for name in COLUMNS}
    bucket = steps // width
    starts = np.flatnonzero(np.concatenate(([True], bucket[1:] != bucket[:-1])))
    ends = np.append(starts[1:], len(steps))
    lengths = ends - starts
    finite = np.isfinite(values)
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    place = np.arange(len(steps))

    def first_place(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Position of the first True in each bucket; of its first point if there is none."""
        hit = np.minimum.reduceat(np.where(mask, place, len(steps)), starts)
        return np.where(hit < len(steps), hit, starts)

    def count(mask: NDArray[np.bool_]) -> F64:
        return np.add.reduceat(mask, starts, dtype=np.float64)

    first = first_place(finite)
    last = np.maximum.reduceat(np.where(finite, place, -1), starts)
    empty = last < 0
    last = np.where(empty, starts, last)
    low_place = first_place(finite & (values == np.repeat(low, lengths)))
    high_place = first_place(finite & (values == np.repeat(high, lengths)))

    with np.errstate(over="ignore"):  # a sum beyond the largest float is infinite, and says so
        total = np.add.reduceat(np.where(finite, values, 0.0), starts)

    def or_nan(column: F64) -> F64:
        return np.where(empty, np.nan, column)

    return {
        "first_step": steps[starts].astype(np.float64),
        "last_step": steps[ends - 1].astype(np.float64),
        "last_time": times[ends - 1].astype(np.float64),
        # Taken from their places: 0.0 and -0.0 are equal, the first of them counts.
        "min": or_nan(values[low_place]),
        "max": or_nan(values[high_place]),
        "min_step": or_nan(steps[low_place].astype(np.float64)),
        "max_step": or_nan(steps[high_place].astype(np.float64)),
        "first": or_nan(values[first]),
        "last": or_nan(values[last]),
        "sum": or_nan(total),
        "count": lengths.astype(np.float64),
        "nan": count(np.isnan(values)),
        "pinf": count(values == np.inf),
        "ninf": count(values == -np.inf),
    }
