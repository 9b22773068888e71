"""Rules 5 and 13 on the loss: it rose and stays far above its best and its beginning.

A single spike is no alarm, and a critic's loss may rise in good health; both stay notices.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP, Alarm, Event, severities_of
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.robust import TICK, Ring, cells, middle
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

MEDIAN_OVER = 25


class LossDivergence(Rule):
    """Median of 25 losses against the best such median and the one at the start."""

    name = "loss_divergence"
    reads = ("loss",)
    needs = 72
    STATE = ("alarm", "losses", "steps", "best", "first", "high", "high_step",
             "lost")  # fmt: skip

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarm = Alarm()
        self.losses = Ring(1, 32)
        self.steps = Ring(1, 32, np.int64)
        self.best = math.inf
        self.first = math.nan
        """Largest median within the first records: the level of an untrained model."""
        self.high = 0
        """Records in a row far above the best."""
        self.high_step = -1
        self.lost = 0
        """Records in a row above the untrained model, after one that was far better."""

    def update(self, block: Block) -> list[Finding]:
        loss = block.scalars["loss"]
        known = np.flatnonzero(np.isfinite(loss))
        levels: dict[int, int] = {}
        words: dict[int, tuple[Said, int]] = {}
        losses, steps = loss[None, known], block.steps[None, known]
        for start, stop, tick in cells(self.losses.count, len(known)):
            self.losses.push(losses[:, start:stop])
            self.steps.push(steps[:, start:stop])
            if tick and self.losses.count >= 32:
                at = int(known[stop - 1])
                levels[at], median = self._judge(block, at)
                if levels[at] > 0 and self.alarm.may_speak(levels[at], len(block)):
                    words[at] = self._say(median, int(block.steps[at])), self.high_step
        if self.alarm.rests(len(block), levels.values()):
            return []  # nearly always
        severities = severities_of(loss, levels)
        found: list[Finding] = []
        for event in self.alarm.sweep(severities):
            found.append(self._finding(block, event, words))
        return found

    def _finding(self, block: Block, event: Event, words: dict[int, tuple[Said, int]]) -> Finding:
        if event.what == "clear":
            said = cleared("Loss back near its best for 200 steps", "loss", self.alarm)
        else:
            said, onset = words[event.at]
            if event.fresh:
                self.alarm.onset = onset
        return finding(self.context, self.name, block, event, self.alarm.onset, said)

    def _judge(self, block: Block, at: int) -> tuple[int, float]:
        limits = self.limits
        median = middle(self.losses.window(MEDIAN_OVER)[0])
        if self.losses.count <= limits["start"]:
            if math.isnan(self.first):
                # of what learns fast only the first few records show the untrained model
                self.first = middle(self.losses.window(32)[0][:TICK])
            self.first = max(self.first, median)
        ratio = median / self.best if self.best > 0 else math.inf
        was, self.best = self.best, min(self.best, median)
        if not (0 < was < math.inf) or not self.first > 0:
            return 0, median
        # far above both: an interpolating model at 1e-5 may bounce to 1e-3 and be well
        far = ratio >= limits["ratio"] and median >= limits["over_first"] * self.first
        if not far:
            self.high = 0
            if self._all_lost(median, block, at):
                return 2, median
            near = ratio >= limits["ratio"] / 2 and median >= self.first
            return (KEEP if near else 0), median
        if not self.high:
            self.high_step = int(self.steps.window(MEDIAN_OVER // 2)[0, 0])
        self.high += 8
        steep = median >= limits["steep"] * self.first
        if self.high < (limits["records_steep"] if steep else limits["records"]):
            return KEEP, median
        if self.context.competes(self.scope):
            return 1, median  # losses of policies say little; their rewards do
        critical = ratio >= limits["critical"] and steep
        return (3 if critical else 2), median

    def _all_lost(self, median: float, block: Block, at: int) -> bool:
        """Worse than the untrained model, after having been far better, and still rising; or far
        above the best while the rate climbs."""
        limits = self.limits
        if self.context.competes(self.scope) or self.best > limits["learnt"] * self.first:
            self.lost = 0
            return False
        climbs = self.context.rates[self.scope].climbs(block, at)
        progress = self.context.progress_of(self.scope)
        rises = progress.rising(int(block.steps[at]), 12, limits["rises"])
        gone = median > self.first and rises
        # a model that interpolates bounces at the foot of its loss, whatever the rate does
        high = climbs and median >= limits["ratio"] * self.best >= limits["foot"] * self.first
        half = climbs and rises and median - self.best >= 0.5 * (self.first - self.best)
        if not (gone or high or half):
            self.lost = 0
            return False
        if not self.lost:
            self.high_step = int(self.steps.window(MEDIAN_OVER // 2)[0, 0])
        self.lost += 8
        # data may drift and a penalty may be raised; a rate that climbs leaves no other reason
        return self.lost >= limits["records_lost"] * (1 if climbs and (gone or half) else 4)

    def _say(self, median: float, step: int) -> Said:
        times = median / self.best
        return Said(
            title=f"Loss {short(times)}x above its best: {short(median)}",
            message=(
                f"Median of the last {MEDIAN_OVER} losses is {number(median)} at step {step}, best "
                f"was {number(self.best)}, start {number(self.first)}; not recovered since step "
                f"{self.high_step}."
            ),
            evidence=(
                Evidence(
                    label="Loss, median of 25",
                    value=number(median),
                    limit=number(self.limits["ratio"] * self.best),
                    kind="loss",
                    scope=self.scope,
                ),
                Evidence(
                    label="Best median", value=number(self.best), kind="loss", scope=self.scope
                ),
            ),
            kind="loss",
        )

    def restart(self) -> None:
        self.losses, self.steps = Ring(1, 32), Ring(1, 32, np.int64)
        self.best, self.first, self.high, self.lost = math.inf, math.nan, 0, 0
