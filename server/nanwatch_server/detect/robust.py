"""Rings with contiguous windows and the grid that makes rules indifferent to batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.block import F64
from nanwatch_server.detect.state import Stateful

TICK = 8
"""Records between two evaluations of a window. Every 8: see the detection reference, section 6."""


def cells(seen: int, n: int, size: int = TICK) -> Iterator[tuple[int, int, bool]]:
    """Cut `n` new records at multiples of `size` of the running count `seen`.

    Yields start, stop and whether the cell ends on the grid. Because windows are evaluated only
    there, the way records were batched cannot change what is found.
    """
    start = 0
    while start < n:
        stop = min(n, start + size - (seen + start) % size)
        yield start, stop, (seen + stop) % size == 0
        start = stop


class Ring(Stateful):
    """The last `capacity` columns of `rows` series; every window is one contiguous view."""

    STATE = ("data", "count")

    def __init__(self, rows: int, capacity: int, dtype: Any = np.float64) -> None:
        # each column is written twice, `capacity` apart, so that no window ever wraps
        fill = 0 if np.dtype(dtype).kind == "i" else np.nan
        # and columns lie one after the other: they are what is written, and summed over
        self.data: NDArray[Any] = np.full((rows, 2 * capacity), fill, dtype, order="F")
        self.capacity = capacity
        self.count = 0

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` gave."""
        super().load(data)
        self.data = np.asfortranarray(self.data)
        self.capacity = self.data.shape[1] // 2

    def push(self, values: NDArray[Any]) -> None:
        """Append columns."""
        data, capacity, n = self.data, self.capacity, values.shape[1]
        if n > capacity:  # of the first nothing would be left
            self.count += n - capacity
            values, n = values[:, n - capacity :], capacity
        at = self.count % capacity
        self.count += n
        head = capacity - at
        if n <= head:
            data[:, at : at + n] = values
            data[:, at + capacity : at + capacity + n] = values
            return
        data[:, at:capacity] = data[:, at + capacity :] = values[:, :head]
        data[:, : n - head] = data[:, capacity : capacity + n - head] = values[:, head:]

    def put(self, column: Sequence[float]) -> None:
        """Append one column: `push` without an array around it."""
        at = self.count % self.capacity
        self.count += 1
        for row, value in enumerate(column):
            self.data[row, at] = self.data[row, at + self.capacity] = value

    def window(self, n: int) -> NDArray[Any]:
        """The last `n` columns, fewer if fewer were pushed. A view: do not keep it."""
        count, capacity = self.count, self.capacity
        if not count:
            return self.data[:, :0]
        end = (count - 1) % capacity + 1 + capacity
        return self.data[:, end - min(n, count, capacity) : end]

    def select(self, rows: list[int]) -> None:
        """Keep these rows, in this order; -1 stands for a new, empty row."""
        fresh = np.full((len(rows), self.data.shape[1]), np.nan, self.data.dtype, order="F")
        for to, old in enumerate(rows):
            if old >= 0:
                fresh[to] = self.data[old]
        self.data = fresh


def log_or_nan(values: F64) -> F64:
    """Natural logarithm where it exists, NaN elsewhere.

    Of 0 and of negative numbers numpy warns, unless told not to as the engine does for all rules:
    asking for that here would take as long as the logarithm.
    """
    logs = np.log(values)
    return np.where(np.isfinite(logs), logs, np.nan)


def hold_last(values: F64, last: F64) -> F64:
    """Replace NaN by the row's newest number before it. Updates `last`, one per row, in place."""
    missing = np.isnan(values)
    if missing.any():
        values = values.copy()
        for column in range(values.shape[1]):
            np.copyto(values[:, column], last, where=missing[:, column])
            last[:] = values[:, column]
    elif values.shape[1]:
        last[:] = values[:, -1]
    return values


LISTED = 128
"""Up to so many values Python sorts about as quickly as numpy, which lets go of the interpreter for
every sort: while a server is busy, getting it back takes a hundred times as long as sorting."""


def middle(values: F64) -> float:
    """Median of a non-empty window without NaN: a fifth of the time of `numpy.median`."""
    ranked = sorted(values.tolist()) if len(values) <= LISTED else np.sort(values)
    half = len(ranked) // 2
    return float(ranked[half] if len(ranked) % 2 else 0.5 * (ranked[half - 1] + ranked[half]))


def middles(values: F64) -> F64:
    """`middle` of each row."""
    if len(values) == 1:
        return np.array([middle(values[0])])
    ranked = np.sort(values, axis=1)
    half = values.shape[1] // 2
    return ranked[:, half] if values.shape[1] % 2 else 0.5 * (ranked[:, half - 1] + ranked[:, half])


def deviation(values: F64, around: float) -> float:
    """Median absolute deviation, as the standard deviation of a Gaussian: 1.4826 MAD."""
    return 1.4826 * middle(np.abs(values - around))


def median(values: F64) -> float:
    """Median of the finite values; NaN without one."""
    values = values[np.isfinite(values)]
    return middle(values) if values.size else float("nan")


def theil_sen(values: F64) -> float:
    """Median slope over all pairs, per record; robust against a third of outliers."""
    index = np.arange(values.size, dtype=np.float64)
    upper = np.triu_indices(values.size, 1)
    return float(
        np.median((values[upper[1]] - values[upper[0]]) / (index[upper[1]] - index[upper[0]]))
    )


def improving(losses: F64, by: float = 0.05) -> bool:
    """True if the last quarter's median loss lies clearly below the first quarter's."""
    quarter = max(1, losses.size // 4)
    first, last = median(losses[:quarter]), median(losses[-quarter:])
    return bool(last < first - by * abs(first))
