"""The loss shoots up within a few records: the only sign where no gradient norm is logged.

Read record by record, from the first one on, since a learning rate that is far too high needs ten
steps from the start to the NaN. Slower trouble belongs to `loss_growth` and `loss_divergence`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import KEEP, severities_of
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.growth_rule import GrowthRule
from nanwatch_server.detect.robust import TICK, Ring, fed, middle
from nanwatch_server.detect.tick import SpeakingRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

CAME_BACK = 0.1
"""Below this share of its peak a climb is over by itself; else what is usual has risen to it."""
VISITS = 8
"""Climbs that are remembered."""
LATER_TASK = 2.0
"""A later task may begin so many times above the level of the untrained model."""


class LossExplosion(SpeakingRule):
    """Two records in a row, the second higher, far above the usual loss and the first one."""

    name = "loss_explosion"
    kind = "loss"
    reads = ("loss",)
    calm = "Loss no longer explodes"
    STATE = ("alarm", "losses", "usual", "first", "before", "begin", "untrained",
             "fell", "newest", "visits")  # fmt: skip

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.untrained = math.nan
        """Level of the first records of the run: the worst that a new task should bring back."""
        self.restart()

    def restart(self) -> None:
        self.losses = Ring(1, 64)
        self.usual = math.nan
        """Median of the last 64 as of the last tick; the first record until then."""
        self.first = math.nan
        self.before = math.nan
        """The record before, if it stood far above; else NaN."""
        self.fell, self.newest = False, math.nan
        """Whether any of the first records was below the one before it, and the newest of them."""
        self.begin = -1
        """Step at which the present climb began."""
        self.visits: list[float] = []
        """Where the last climbs ended from which the loss came back by itself."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        loss = block.scalars["loss"]
        known = np.flatnonzero(np.isfinite(loss))
        levels: dict[int, int] = {}
        verdicts: dict[int, Verdict] = {}
        for start, stop, tick in fed([(self.losses, loss[None, known])]):
            part = known[start:stop]
            # of the first records each decides how the next is judged
            pieces = part[:, None] if math.isnan(self.untrained) else part[None, :]
            for piece in pieces:
                self._look(loss[piece], piece, block, levels, verdicts)
            if tick:
                window = self.losses.window(64)[0]
                self.usual = middle(window)
                if self.losses.count == TICK:  # a level rather than one record
                    self.first = self._at_most(self.usual)
                    high = window >= self.limits["times"] * self.usual
                    self.visits = window[:-1][high[:-1] & ~high[1:]].tolist()
                    if math.isnan(self.untrained):
                        self.untrained = self.usual
        if self.alarm.rests(len(block), levels.values()):
            return []  # nearly always
        severities = severities_of(loss, levels)
        return self.speak(block, severities, verdicts)

    def _look(
        self,
        losses: F64,
        part: NDArray[np.intp],
        block: Block,
        levels: dict[int, int],
        verdicts: dict[int, Verdict],
    ) -> None:
        limits = self.limits
        if math.isnan(self.first):
            self.first = self.usual = self._at_most(float(losses[0]))
        if not (self.usual > 0 and self.first > 0):
            return  # no ratio to speak of
        least = max(limits["times"] * self.usual, limits["over_first"] * self.first)
        if math.isnan(self.untrained):
            # one record is no level yet; what fell in between is noise rather than a climb
            self.fell |= bool((np.diff(losses, prepend=self.newest) < 0).any())
            self.newest = float(losses[-1])
            least *= limits["early"] if self.fell else 1.0
        if math.isnan(self.before) and not (losses >= least / 4).any():
            return
        for at, value in zip(part.tolist(), losses.tolist(), strict=True):
            if value < least:
                if not math.isnan(self.before) and value < CAME_BACK * self.before:
                    self.visits = [*self.visits, self.before][-VISITS:]
                self.before = math.nan
                levels[at] = KEEP if value >= least / 4 else 0
                continue
            if math.isnan(self.before):
                self.begin = int(block.steps[at])
            climbs = value > self.before and not self._usual_height(value)
            self.before = value
            if not climbs:
                levels[at] = KEEP
                continue
            far_out = value >= limits["critical"] * self.usual
            severity = 1 if self.context.competes(self.scope) else 3 if far_out else 2
            levels[at] = severity
            verdicts[at] = Verdict(severity, self.begin, self._say(value, int(block.steps[at])))

    def _usual_height(self, value: float) -> bool:
        """True if the loss has been up there before and come back each time: tasks that take turns,
        each with a loss of its own size."""
        known = len(self.visits) >= self.limits["visits"]
        return known and value < self.limits["over_visits"] * max(self.visits)

    def _at_most(self, level: float) -> float:
        """The first level of a task: it may be the explosion itself."""
        return min(level, LATER_TASK * self.untrained) if self.untrained > 0 else level

    def _say(self, value: float, step: int) -> Said:
        return Said(
            title=f"Loss shoots up {short(value / self.usual)}x to {short(value)}",
            message=(
                f"Loss is {number(value)} at step {step}, {short(value / self.usual)} times its "
                f"usual {number(self.usual)} and rising since step {self.begin}."
            ),
            evidence=(
                Evidence(
                    label="Loss",
                    value=number(value),
                    limit=number(self.limits["times"] * self.usual),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )


class LossGrowth(GrowthRule):
    """Accelerating growth of the loss, far above the level of the untrained model."""

    name = "loss_growth"
    kind = "loss"
    what = "Loss"
    calm = "Loss no longer grows"

    def restart(self) -> None:
        super().restart()
        self.negative = False
        """The loss judged is below 0: nothing bounds what is optimised."""
        self._came: tuple[I64, F64] = np.empty(0, np.int64), np.empty(0)
        """Steps and losses of the present block."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        self._came = block.steps, block.scalars["loss"]
        return super().update(block)

    def _judge(self, steps: I64) -> Verdict:
        came, losses = self._came
        self.negative = bool(losses[np.searchsorted(came, steps[-1])] < 0)
        return super()._judge(steps)

    def sign(self) -> str:
        """`-` for a loss below 0."""
        return "-" if self.negative else ""

    def pardoned(self, step: int) -> bool:
        """Losses of competitors and critics may rise in good health, though not by anything."""
        if not self.context.competes(self.scope):
            return False
        level, limits = float(self.bank.level()[0]), self.limits
        far = level - float(self.start[0]) >= math.log(limits["times_competes"])
        far &= level >= math.log(limits["critical"])
        return not far or bool(self.context.pays(step))
