"""Losses of logs that hold few records, each a mean over many steps: an epoch, or ten steps and
more. What other rules wait a hundred records for shows in a handful of these."""

from __future__ import annotations

import math

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.means_rule import MeansRule
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

FIRST = 3
"""Records that show an untrained model; as many make one level."""
HIGH = 6
"""Records in a row that must agree, ..."""
STEADY = 8
"""... where they are not as high, ..."""
ALL = 16
"""... and those that a loss below 0 is compared with."""
_LIMITS = {"over": "ratio", "lost": "lost", "thrown": "twice"}
"""What is wrong → the multiple of the best that was reached."""


class LossMeans(MeansRule):
    """The lowest of the last 6 records against the best level of 3 and the first records."""

    name = "loss_means"
    reads = ("loss",)
    beside = ("lr",)
    keep = 32
    needs = 16
    calm = "Loss near its best again"
    OWN = ("first", "best", "best_step", "best_rate", "decayed", "most", "high_step")

    def begin(self) -> None:
        self.first = math.nan
        self.best = math.inf
        """Lowest median of three."""
        self.best_step = self.high_step = -1
        self.best_rate = math.nan
        """Learning rate at that time."""
        self.most = 0.0
        """Highest learning rate."""
        self.decayed = False
        """The rate had come down before the best: a schedule, whose ups and downs show."""

    def judge(self) -> Verdict:
        self._look()
        if not self.advances(self.needs) or math.isnan(self.first):
            return QUIET
        limits = self.limits
        level = float(self.last(HIGH).min())
        why = self._why(level)
        if not why:
            self.high_step = -1
            return Verdict(KEEP) if level >= limits["twice"] * self.best > 0 else QUIET
        if self.high_step < 0:
            self.high_step = int(self.steps(HIGH)[0])
        said = self._say_endless() if why == "endless" else self._say(level, why)
        if self.context.competes(self.scope) or self.context.learns_policy():
            return Verdict(1, self.high_step, said)
        critical = level >= max(limits["critical"] * self.best, limits["steep"] * self.first) > 0
        return Verdict(3 if critical else 2, self.high_step, said)

    def _why(self, level: float) -> str:
        """What is wrong with the last records; empty for nothing."""
        if self._endless():
            return "endless"
        if not (0 < self.best < math.inf) or not self.first > 0:
            return ""
        limits = self.limits
        ratio = level / self.best
        if ratio >= limits["ratio"] and level >= limits["over_first"] * self.first:
            return "over"
        steady = float(self.last(STEADY).min())
        kept = (self.first - steady) / max(self.first - self.best, 1e-300)
        learnt = self.best <= limits["learnt"] * self.first
        if learnt and steady >= limits["lost"] * self.best and kept <= limits["kept"]:
            return "lost"
        return "thrown" if self._thrown() else ""

    def _endless(self) -> bool:
        """True for a loss that falls below 0 ever faster: it has no lower bound, and weights grow
        for nothing else."""
        limits = self.limits
        before, now = float(self.last(ALL).max()), float(self.last(HIGH).max())
        start = max(abs(self.first), 1.0)
        falls = now < before < 0 and now <= limits["faster"] * before
        return falls and now <= -limits["endless"] * start

    def _look(self) -> None:
        """Take in the records since the last look: 8, or all at first."""
        fresh = min(self.count, self.needs if math.isnan(self.first) else self.every)
        losses, rates = self.last(fresh + FIRST - 1), self.last(fresh, "lr")
        steps = self.steps(fresh)
        if math.isnan(self.first):
            self.first = float(self.last(min(self.count, self.keep))[:FIRST].max())
        for at in range(fresh):
            end = len(losses) - fresh + at + 1
            window = losses[max(0, end - FIRST) : end]
            level = middle(window) if len(window) == FIRST else math.inf
            rate = float(rates[at])
            if level < self.best:
                self.best, self.best_step, self.best_rate = level, int(steps[at]), rate
                self.decayed = rate < self.most
            if rate > self.most:
                self.most = rate

    def _thrown(self) -> bool:
        """True if the loss doubled as a warm-up went on, and stayed there: the rate has become too
        high for a model that was better before."""
        limits = self.limits
        high = float(self.last(STEADY).min()) >= limits["twice"] * self.best
        return high and not self.decayed and self.most >= limits["rate"] * self.best_rate > 0

    def _say(self, level: float, why: str) -> Said:
        times = level / self.best
        rose = ""
        if why == "thrown":
            rose = f" The rate rose meanwhile: {number(self.best_rate)} → {number(self.most)}."
        return Said(
            title=f"Loss {short(times)}x above its best: {short(level)}",
            message=(
                f"None of the last {HIGH} records up to step {self.step} is below {number(level)}; "
                f"at step {self.best_step} the loss was {number(self.best)}, it began at "
                f"{number(self.first)}. In a log of few records, each for many steps, this is no "
                f"noise.{rose}"
            ),
            evidence=(
                Evidence(
                    label="Loss, lowest of the last six",
                    value=number(level),
                    limit=number(self.limits[_LIMITS[why]] * self.best),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )

    def _say_endless(self) -> Said:
        now = float(self.last(1)[0])
        limit = -self.limits["endless"] * max(abs(self.first), 1.0)
        return Said(
            title=f"Loss falls without end: {short(now)}",
            message=(
                f"The loss is {number(now)} at step {self.step}, it began at {number(self.first)}, "
                "and falls faster and faster: it has no lower bound, and what grows for it is the "
                "weights. A sign, a missing margin or a missing penalty."
            ),
            evidence=(
                Evidence(
                    label=labels.FALLS_WITHOUT_END,
                    value=number(now),
                    limit=number(limit),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
