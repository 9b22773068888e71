"""How the loss of a scope has gone so far, asked "as of step n" by rules on other series.

Layers, updates and activations are measured on cadences of their own, so their rules cannot see
the loss in their block. Fed by the engine before the rules; answers never look past `step`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nanwatch_server.detect.block import F64, I64
from nanwatch_server.detect.robust import TICK, Ring, middle, middles
from nanwatch_server.detect.state import Stateful

START_TICKS = 4
"""Ticks (of 8 records) that set the level of the untrained model."""
LEARNED_SIGMA = 3.0
"""A difference of medians this many standard errors wide is real (two-sided 0.3 %)."""

ASKED_MOST = 64
"""Answers that are remembered."""

LOST = 0.1
"""Share of what was gained that may be gone again while a training is still called well."""


class Progress(Stateful):
    """Medians of 8 losses at a time, with the steps they end at."""

    STATE = ("ring", "medians", "spreads", "steps", "first", "first_spread")

    def __init__(self) -> None:
        self.ring = Ring(1, TICK)
        self.medians = Ring(1, 1024)
        self.spreads = Ring(1, 1024)
        self.steps = Ring(1, 1024, np.int64)
        self.first = math.nan
        """Median of the first 32 losses."""
        self.first_spread = math.nan
        self._asked: dict[tuple[int, int], tuple[F64, float, float]] = {}
        """(step, ticks) → medians, their median, spread: several rules ask for the same."""

    def read(self, losses: F64, steps: I64) -> None:
        """Losses of consecutive attempts; those that are not finite are left out."""
        self._asked.clear()
        known = np.isfinite(losses)
        losses, steps = losses[known], steps[known]
        begun = self.ring.count % TICK
        joined = np.concatenate([self.ring.window(begun)[0], losses]) if begun else losses
        self.ring.push(losses[None, :])
        ticks = len(joined) // TICK
        if not ticks:
            return
        cells = joined[: ticks * TICK].reshape(ticks, TICK)
        levels = middles(cells)
        spreads = middles(np.abs(cells - levels[:, None]))
        if self.medians.count < START_TICKS <= self.medians.count + ticks:
            first = np.append(self.medians.window(START_TICKS)[0], levels)[:START_TICKS]
            around = np.append(self.spreads.window(START_TICKS)[0], spreads)[:START_TICKS]
            self.first, self.first_spread = middle(first), 1.4826 * middle(around)
        self.medians.push(levels[None, :])
        self.spreads.push(spreads[None, :])
        self.steps.push(steps[None, TICK - 1 - begun :: TICK][:, :ticks])

    def upto(self, step: int, ticks: int) -> F64:
        """The last `ticks` medians that ended at or before `step`, fewer if there are fewer."""
        steps = self.steps.window(1024)[0]
        end = int(np.searchsorted(steps, step, side="right"))
        return self.medians.window(1024)[0][max(0, end - ticks) : end]

    def seen_at(self, step: int) -> int:
        """Step of the newest median at or before `step`; -1 while there is none."""
        steps = self.steps.window(1024)[0]
        end = int(np.searchsorted(steps, step, side="right"))
        return int(steps[end - 1]) if end else -1

    def _now(self, step: int, ticks: int) -> tuple[F64, float, float]:
        """The last `ticks` medians up to `step`, their median and the spread around them."""
        found = self._asked.get((step, ticks))
        if found is None:
            end = int(np.searchsorted(self.steps.window(1024)[0], step, side="right"))
            begin = max(0, end - ticks)
            medians = self.medians.window(1024)[0][begin:end]
            spreads = self.spreads.window(1024)[0][begin:end]
            level = middle(medians) if end else math.nan
            spread = 1.4826 * middle(spreads) if end else math.nan
            if len(self._asked) >= ASKED_MOST:  # of a loss that comes seldom
                self._asked.clear()
            found = self._asked[step, ticks] = medians, level, spread
        return found

    def _spread(self, step: int, ticks: int) -> float:
        return self._now(step, ticks)[2]

    def known(self, step: int) -> bool:
        """True if there is a start to compare with and something after it."""
        return math.isfinite(self.first) and self.upto(step, 2 * START_TICKS).size >= (
            2 * START_TICKS
        )

    def gained(self, step: int, ticks: int = 8) -> float:
        """Share of the first loss that is gone: 0 nothing learnt, 1 all, negative: it rose.

        NaN while unknown, 0 where the difference is within the noise.
        """
        if not self.known(step):
            return math.nan
        now, level, spread = self._now(step, ticks)
        noise = max(self.first_spread, spread) / math.sqrt(TICK * len(now))
        moved = self.first - level
        if abs(moved) <= LEARNED_SIGMA * noise:
            return 0.0
        return moved / max(abs(self.first), abs(level), 1e-300)

    def rose_by_chance(self, step: int, ticks: int = 8) -> bool:
        """True if the level stands above that of the start by no more than chance may have put the
        start too low: it is known from few records, and `gained` takes it as it is."""
        if not self.known(step):
            return False
        now, level, spread = self._now(step, ticks)
        several = 1 / (TICK * START_TICKS) + 1 / (TICK * len(now))
        noise = max(self.first_spread, spread) * math.sqrt(several)
        return 0 <= level - self.first <= LEARNED_SIGMA * noise

    def blur(self, step: int, ticks: int = 8) -> float:
        """Smallest share of the first loss whose loss or gain could be told from the noise."""
        if not self.known(step):
            return math.nan
        now, _, spread = self._now(step, ticks)
        noise = max(self.first_spread, spread) / math.sqrt(TICK * len(now))
        return LEARNED_SIGMA * noise / max(abs(self.first), 1e-300)

    def falling(self, step: int, ticks: int = 25, by: float = 0.01) -> bool:
        """True if the last fifth of the last `ticks` medians lies clearly below the first fifth."""
        window, _, spread = self._now(step, ticks)
        part = max(2, len(window) // 5)
        if len(window) < 2 * part:
            return True  # too early to deny it
        before, after = middle(window[:part]), middle(window[-part:])
        noise = spread / math.sqrt(TICK * part)
        return before - after > max(by * abs(before), LEARNED_SIGMA * noise)

    def rising(self, step: int, ticks: int = 25, by: float = 0.05) -> bool:
        """True if the last fifth of the last `ticks` medians lies clearly above the first fifth."""
        window, _, spread = self._now(step, ticks)
        part = max(2, len(window) // 5)
        if len(window) < 2 * part:
            return False
        before, after = middle(window[:part]), middle(window[-part:])
        noise = spread / math.sqrt(TICK * part)
        return after - before > max(by * abs(before), LEARNED_SIGMA * noise)

    def at_best(self, step: int, ticks: int = 4) -> bool:
        """True if the loss has kept nine tenths of what it gained, or stands within the noise of
        its best, as far as its medians are kept.

        False while unknown: it excuses, so it must be seen.
        """
        window = self.upto(step, self.medians.capacity)
        if not self.known(step) or len(window) < 3 * ticks or self.gained(step, ticks) <= 0:
            return False
        levels = np.median(sliding_window_view(window, ticks), axis=1)
        noise = self._spread(step, 4 * ticks) / math.sqrt(TICK * ticks)
        best = float(levels[:-ticks].min())
        lost = float(levels[-1]) - best
        return lost <= max(LEARNED_SIGMA * noise, LOST * (self.first - best))

    def restart(self) -> None:
        """Another fit: what was learnt before says nothing of it."""
        self.__init__()
