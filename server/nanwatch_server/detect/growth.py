"""Accelerating exponential growth over windows of 32 to 16 384 records, many series at once.

A window must grow by a factor, on a straight line in the logarithm, with its second half gaining
at least twice the first, above everything seen before it. Used by the rules on gradients and Q.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.block import F64, I64
from nanwatch_server.detect.robust import TICK, Ring, middles
from nanwatch_server.detect.state import Stateful

LENGTH = 256
BLOCKS = LENGTH // TICK
SCALES = (1, TICK, TICK * TICK)
"""Records per entry of each level of the pyramid that is tested."""
WINDOWS = ((32, 64, 128, 256), (64, 128, 256), (64, 128, 256))
"""Windows tested per level, in entries; 32 entries of a level are 256 of the one below."""


class Level(Stateful):
    """One resolution of the pyramid: the entries, and per entry the maximum of all before it."""

    STATE = ("values", "prior", "steps", "high", "runs", "slopes")

    def __init__(self, rows: int, windows: int) -> None:
        self.values = Ring(rows, LENGTH)
        self.prior = Ring(rows, LENGTH)
        self.steps = Ring(1, LENGTH, np.int64)
        self.high: F64 = np.full(rows, -np.inf)
        self.runs: NDArray[np.int32] = np.zeros((windows, rows), np.int32)
        """Evaluations in a row at which each window passed."""
        self.slopes: F64 = np.zeros((windows, rows))
        """Slope of the logarithm per entry where the window passed last."""

    def push_block(self, means: F64, step: int) -> None:
        """Append the mean of one cell of the level below."""
        self.prior.push(self.high[:, None])
        self.values.push(means[:, None])
        self.steps.push(np.array([[step]]))
        np.fmax(self.high, means, out=self.high)

    def select(self, rows: list[int]) -> None:
        """Keep these rows, -1 for new ones."""
        self.values.select(rows)
        self.prior.select(rows)
        keep = np.array(rows)
        self.high = np.where(keep >= 0, self.high[keep], -np.inf)
        self.runs = np.where(keep >= 0, self.runs[:, keep], 0).astype(np.int32)
        self.slopes = np.where(keep >= 0, self.slopes[:, keep], 0.0)


class Stretch(NamedTuple):
    """Records in which no window can have grown, for all that one may see at a glance."""

    records: int
    """A multiple of `TICK`."""
    means: F64
    """f64[rows, ticks]: mean of every cell."""
    low: F64
    """Least mean per row, of these cells and of all that the windows hold."""


class GrowthBank(Stateful):
    """Growth of `rows` series of logarithms, fed cell by cell."""

    STATE = ("levels", "doubling", "reach", "window")

    def __init__(self, rows: int, limits: dict[str, Any]) -> None:
        self.limits = limits
        self.levels = [Level(rows, len(windows)) for windows in (*WINDOWS, ())]
        self.doubling: F64 = np.full(rows, np.inf)
        """Records per doubling while growing, else infinity. Newest tick."""
        self.reach: F64 = np.zeros(rows)
        """Logarithm of the growth within the firing window."""
        self.window: I64 = np.zeros(rows, np.int64)

    @property
    def rows(self) -> int:
        return len(self.doubling)

    @property
    def count(self) -> int:
        return self.levels[0].values.count

    def push(self, logs: F64, steps: I64) -> bool:
        """Append records of one cell (never across a multiple of `TICK`); True on a tick."""
        base = self.levels[0]
        base.values.push(logs)
        base.steps.push(steps[None, :])
        if base.values.count % TICK:
            return False
        self._climb(0)
        return True

    def parts(
        self, logs: F64, calm: Callable[[F64, Stretch], bool]
    ) -> Iterator[tuple[int, int, Stretch | None]]:
        """Cut new records at the ticks: start, stop, and None, for `push`.

        Where nothing grows, and `calm` agrees for all else that its rule would see, several cells
        come as one with a stretch, for `take`.
        """
        at, alone = 0, 0
        while at < logs.shape[1]:
            stretch = self._stretch(logs[:, at:]) if at >= alone else None
            if stretch is not None and not calm(logs[:, at : at + stretch.records], stretch):
                alone, stretch = at + stretch.records, None
            left = TICK - self.count % TICK
            stop = min(logs.shape[1], at + (left if stretch is None else stretch.records))
            yield at, stop, stretch
            at = stop

    def _stretch(self, logs: F64) -> Stretch | None:
        """The cells up to the next entry two levels up, if they are calm together.

        The last quarter of no window reaches as far above the lowest as every window must: here of
        all cells at once, so that eight ticks cost about as much as one.
        """
        level, above = self.levels[0], self.levels[1]
        ticks = min(logs.shape[1] // TICK, TICK - 1 - above.values.count % TICK)
        if ticks < 2 or level.values.count % TICK or np.count_nonzero(self.window):
            return None
        if any(np.count_nonzero(one.runs) for one in self.levels):
            return None
        # laid out as in a ring: numpy then adds in the same order, and the means are the same bits
        cells = np.asfortranarray(logs[:, : ticks * TICK]).reshape(self.rows, ticks, TICK)
        means = np.add.reduce(cells, axis=2) / TICK
        known = np.concatenate([above.values.window(BLOCKS), means], axis=1)
        low = np.minimum.reduce(known, axis=1)
        high = np.maximum.reduce(known[:, 1 - ticks - BLOCKS // 4 :], axis=1)
        # NaN is no answer: such a row has to be looked at cell by cell
        if np.count_nonzero(high - low <= self._gate()) < self.rows:
            return None
        return Stretch(ticks * TICK, means, low)

    def take(self, logs: F64, steps: I64, stretch: Stretch) -> None:
        """Append records of a stretch."""
        level, above = self.levels[0], self.levels[1]
        level.values.push(logs)
        level.steps.push(steps[None, :])
        highs = np.fmax.accumulate(
            np.concatenate([above.high[:, None], stretch.means], axis=1), axis=1
        )
        above.prior.push(highs[:, :-1])
        above.values.push(stretch.means)
        above.steps.push(steps[None, ::TICK])
        above.high = highs[:, -1].copy()

    def _gate(self) -> float:
        """How far, at least, the mean logarithm of the last quarter of a window that grew by the
        factor lies above that of its first."""
        return 0.6 * math.log(self.limits["factor"])

    def _climb(self, depth: int) -> None:
        level, above = self.levels[depth], self.levels[depth + 1]
        cell = level.values.window(TICK)
        above.push_block(np.add.reduce(cell, axis=1) / TICK, int(level.steps.window(TICK)[0, 0]))
        if depth + 1 < len(SCALES) and above.values.count % TICK == 0:
            self._climb(depth + 1)
        self._test(depth)
        if depth == 0:
            self._combine()

    def _test(self, depth: int) -> None:
        level, above = self.levels[depth], self.levels[depth + 1]
        blocks, prior = above.values.window(BLOCKS), above.prior.window(BLOCKS)
        gate = self._gate()
        # cheaper still, and necessary for every window: the last quarter of the longest reaches so
        # far above the lowest of all
        top = np.fmax.reduce(blocks[:, -(BLOCKS // 4) :], axis=1)
        if not np.count_nonzero(top - np.fmin.reduce(blocks, axis=1) > gate):
            level.runs.fill(0)
            return
        for index, width in enumerate(WINDOWS[depth]):
            n = width // TICK
            runs = level.runs[index]
            if level.values.count < width or self.count < self.limits["warmup"]:
                continue
            quarter = max(1, n // 4)
            last = np.add.reduce(blocks[:, -quarter:], axis=1)
            first = np.add.reduce(blocks[:, -n : quarter - n], axis=1)
            # cheap and necessary: only series that rose to a new high get the full test
            maybe = (last - first > gate * quarter) & (last > prior[:, -n] * quarter)
            rows = np.flatnonzero(maybe)
            passed = np.zeros(len(runs), bool)
            if rows.size:
                fits, slopes = self._fit(level.values.window(width)[rows])
                passed[rows[fits]] = True
                level.slopes[index, rows[fits]] = slopes[fits]
            np.multiply(runs + 1, passed, out=runs)

    def _fit(self, logs: F64) -> tuple[NDArray[np.bool_], F64]:
        """Which rows grow enough, straight enough in the logarithm and ever faster; slopes."""
        n = logs.shape[1]
        t = np.arange(n) - (n - 1) / 2
        sxx = n * (n * n - 1) / 12
        slopes = logs @ t / sxx
        total = ((logs - logs.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        quarter = n // 4
        middle = (n - quarter) // 2
        low = middles(logs[:, :quarter])
        mid = middles(logs[:, middle : middle + quarter])
        high = middles(logs[:, -quarter:])
        # gains in plain units, scaled by the last so that nothing overflows
        early, late = np.exp(mid - high) - np.exp(low - high), 1 - np.exp(mid - high)
        fits = slopes * n >= math.log(self.limits["factor"])
        fits &= slopes * slopes * sxx >= self.limits["r2"] * total
        fits &= late >= self.limits["acceleration"] * np.maximum(early, 0.0)
        return fits, slopes

    def _needed(self, depth: int, width: int) -> int:
        """Evaluations in a row: an eighth of the window, two at least."""
        return max(2, width // 8 // TICK) if depth == 0 else 2

    def _combine(self) -> None:
        """Shortest window that holds gives the doubling time: it says how fast it is now."""
        if np.count_nonzero(self.window):  # it grew at the tick before
            self.doubling.fill(np.inf)
            self.reach.fill(0)
            self.window.fill(0)
        for depth, level in enumerate(self.levels[: len(SCALES)]):
            if not np.count_nonzero(level.runs):
                continue
            for index, width in enumerate(WINDOWS[depth]):
                held = level.runs[index] >= self._needed(depth, width)
                slopes = np.where(held, level.slopes[index], 0.0)
                first = held & np.isinf(self.doubling)
                self.doubling[first] = math.log(2) / slopes[first] * SCALES[depth]
                further = slopes * width > self.reach
                self.reach[further] = slopes[further] * width
                self.window[further] = width * SCALES[depth]

    def reference(self, blocks: int = 16) -> F64:
        """Median of the last block means per row: the level of the last 128 records."""
        window = self.levels[1].values.window(blocks)
        if window.shape[1] < 6:
            return np.full(self.rows, np.nan)
        return middles(window)

    def level(self) -> F64:
        """Logarithm now, per row: median of the cell that a tick has just closed."""
        return middles(self.levels[0].values.window(TICK))

    def steps_per_record(self) -> float:
        """Attempts per record of late: above 1 where a value is measured every few attempts."""
        steps = self.levels[0].steps.window(LENGTH)[0]
        return float(steps[-1] - steps[0]) / max(1, len(steps) - 1) if len(steps) > 1 else 1.0

    def onset(self, row: int) -> int:
        """Step at which the present rise of a row began: the corner of the best hinge."""
        depth = 1 if self.window[row] <= 2 * LENGTH else 2
        level = self.levels[depth]
        span = max(16, min(LENGTH, 4 * int(self.window[row]) // SCALES[depth]))
        return corner(level.values.window(span)[row], level.steps.window(span)[0])

    def select(self, rows: list[int]) -> None:
        """Keep these rows, -1 for new ones."""
        for level in self.levels:
            level.select(rows)
        self.doubling = np.full(len(rows), np.inf)
        self.reach = np.zeros(len(rows))
        self.window = np.zeros(len(rows), np.int64)

    def restart(self) -> None:
        """Windows begin anew (another fit, a resume)."""
        self.levels = [Level(self.rows, len(windows)) for windows in (*WINDOWS, ())]
        self.doubling.fill(np.inf)


def corner(logs: F64, steps: I64) -> int:
    """Step where a flat line turns into a rising one, by least squares over all corners."""
    known = np.isfinite(logs)
    logs, steps = logs[known], steps[known]
    n = len(logs)
    if n < 4:
        return int(steps[0]) if n else -1
    ramp = np.maximum(0.0, np.arange(n)[None, :] - np.arange(n - 2)[:, None])
    ramp -= ramp.mean(axis=1, keepdims=True)
    centred = logs - logs.mean()
    slope = ramp @ centred / (ramp * ramp).sum(axis=1)
    gain = np.where(slope > 0, slope * slope * (ramp * ramp).sum(axis=1), -np.inf)
    return int(steps[int(np.argmax(gain))])
