"""A new task that costs far more than the very first one did without any training: what was learnt
is not only of no use, it is in the way."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.robust import TICK, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

LEVEL_OVER = 24
"""Records of one level."""
FIRST_OVER = 64
"""Records that show an untrained model."""
PEAK_OVER = 4
"""Records of a peak: more than one batch."""


class TaskShock(TickRule):
    """Median of 24 losses right after a mark `task` against the untrained model's of the first."""

    name = "task_shock"
    reads = ("loss",)
    keep = 32
    needs = LEVEL_OVER
    calm = "Loss no longer far above that of an untrained model"
    OWN = ("untrained", "first", "high", "virgin")

    def __init__(self, context: Context, scope: str) -> None:
        self.untrained = math.nan
        """Level of the first records of the run; NaN while unknown."""
        self.virgin = context.mark in ("", "task")
        """The windows are those of weights that nothing has trained before."""
        super().__init__(context, scope)

    def restart(self) -> None:
        if self.context.mark == "fit":
            self.untrained = math.nan  # another fit may have another loss
        elif self.virgin and self.first > 0:
            self.untrained = self.first
        self.virgin = False
        super().restart()

    def begin(self) -> None:
        self.first = math.nan
        """Largest level of the first records of this task."""
        self.high = 0
        """Records in a row so far above."""

    def judge(self) -> Verdict:
        limits = self.limits
        recent = self.last(LEVEL_OVER)
        level = middle(recent)
        if self.count <= FIRST_OVER:
            # of what learns fast only the first few records show the untrained model
            known = middle(recent[:TICK]) if math.isnan(self.first) else self.first
            self.first = max(known, level)
        if not self.untrained > 0:
            return QUIET
        if self.context.competes(self.scope) or self.context.learns_policy():
            return QUIET  # losses of policies and of games say little
        late = self.count > limits["records_after"]  # by then it has other reasons
        if not late:
            peaks = np.median(sliding_window_view(recent, PEAK_OVER), axis=1)
            if (peak := float(peaks.max())) >= limits["peak"] * self.untrained:
                begun = int(self.steps(LEVEL_OVER)[int(peaks.argmax())])
                return Verdict(2, begun, self._say(peak, PEAK_OVER))
        if level < limits["times"] * self.untrained:
            self.high = 0
            return Verdict(KEEP) if level >= 0.5 * limits["times"] * self.untrained else QUIET
        self.high += TICK
        if late or self.high < limits["records"]:
            return Verdict(KEEP)
        begun = int(self.steps(LEVEL_OVER + self.high)[0])
        return Verdict(2, begun, self._say(level, LEVEL_OVER))

    def _say(self, level: float, over: int) -> Said:
        times = short(level / self.untrained)
        most = "peak" if over == PEAK_OVER else "times"
        return Said(
            title=f"New task costs {times}x what the first did untrained: loss {short(level)}",
            message=(
                f"Median of {over} losses in a row is {number(level)} by step {self.step}. "
                f"The very first task began at {number(self.untrained)}, with weights that had "
                "learnt nothing."
            ),
            evidence=(
                Evidence(
                    label=f"Loss, median of {over}",
                    value=number(level),
                    limit=number(self.limits[most] * self.untrained),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
