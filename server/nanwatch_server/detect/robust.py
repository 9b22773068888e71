"""Rings with contiguous windows and the grid that makes rules indifferent to batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.block import F64
from nanwatch_server.detect.state import Stateful, array_of, plain

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
    """The last `capacity` columns of `rows` series; every window is one contiguous view.

    Columns follow each other in memory as they come; when the end is reached, those that are still
    wanted move to the front. `ahead`: columns that can be placed at once before they count.
    """

    def __init__(self, rows: int, capacity: int, dtype: Any = np.float64, ahead: int = 0) -> None:
        self.capacity = capacity
        self.count = 0
        """Columns there have ever been."""
        self._held = 0
        self._end = 0
        # columns one after the other: they are what is written, and summed over
        size = capacity + max(capacity, ahead)
        self._data: NDArray[Any] = np.zeros((rows, size), dtype, order="F")

    @property
    def rows(self) -> int:
        """Series."""
        return len(self._data)

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""
        return {"columns": plain(self.window(self.capacity)), "count": self.count}

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` gave, here or in a server that wrote every column twice."""
        count = data["count"]
        if "columns" in data:
            columns = array_of(data["columns"])
        else:
            columns = array_of(data["data"])
            half = columns.shape[1] // 2
            end = (count - 1) % half + 1 + half
            columns = columns[:, end - min(count, half) : end]
        columns = columns[:, -self.capacity :]
        self._held = self._end = columns.shape[1]
        self._data = np.zeros((len(columns), self._data.shape[1]), columns.dtype, order="F")
        self._data[:, : self._end] = columns
        self.count = count

    def place(self, values: NDArray[Any]) -> int:
        """Write columns behind the newest, as many as there is room for, and say how many.
        They do not count before `advance`. There is room for `capacity` of them, or `ahead`."""
        data, n = self._data, values.shape[1]
        if self._end + n > data.shape[1]:
            self._to_front()
            n = min(n, data.shape[1] - self._end)
        data[:, self._end : self._end + n] = values[:, :n]
        return n

    def advance(self, n: int) -> None:
        """Take in the next `n` of the columns that were placed."""
        self._end += n
        self.count += n
        if self._held < self.capacity:
            self._held = min(self._held + n, self.capacity)

    def _to_front(self) -> None:
        held = self._data[:, self._end - self._held : self._end]
        self._data[:, : self._held] = held  # numpy sees to it where they overlap
        self._end = self._held

    def push(self, values: NDArray[Any]) -> None:
        """Append columns."""
        n = values.shape[1]
        if n > self.capacity:  # of the first nothing would be left
            self.count += n - self.capacity
            values, n = values[:, n - self.capacity :], self.capacity
        self.place(values)
        self.advance(n)

    def put(self, column: Sequence[float]) -> None:
        """Append one column of a few rows: `push` without an array around it."""
        if self._end == self._data.shape[1]:
            self._to_front()
        for row, value in enumerate(column):
            self._data[row, self._end] = value
        self.advance(1)

    def window(self, n: int) -> NDArray[Any]:
        """The last `n` columns, fewer if fewer were pushed. A view: do not keep it."""
        return self._data[:, self._end - min(n, self._held) : self._end]

    def select(self, rows: list[int]) -> None:
        """Keep these rows, in this order; -1 stands for a new, empty row."""
        fresh = np.full((len(rows), self._data.shape[1]), np.nan, self._data.dtype, order="F")
        for to, old in enumerate(rows):
            if old >= 0:
                fresh[to] = self._data[old]
        self._data = fresh


def fed(
    pairs: Sequence[tuple[Ring, NDArray[Any]]], every: int = TICK
) -> Iterator[tuple[int, int, bool]]:
    """`cells` of new columns, each in its ring by the time the cell is yielded.

    All rings have the same count. The columns are written as many at a time as there is room for.
    """
    ring, columns = pairs[0]
    placed = 0
    for start, stop, tick in cells(ring.count, columns.shape[1], every):
        if stop > placed:
            placed = start + min(one.place(new[:, start:]) for one, new in pairs)
        for one, _ in pairs:
            one.advance(stop - start)
        yield start, stop, tick


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
