"""Losses of logs that hold few records, each a mean over many steps: an epoch, or ten steps and
more. What other rules wait a hundred records for shows in a handful of these."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import I64
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import EPOCHS, number, short
from nanwatch_server.domain.models import Evidence

FIRST = 3
"""Records that show an untrained model; as many make one level."""
HIGH = 6
"""Records in a row that must agree."""


STRIDE = 10
"""Steps from one record to the next of a log that keeps means, where it does not count epochs."""


def are_means(context: Context, steps: I64) -> bool:
    """True if each record of these steps stands for many updates."""
    return bool(context.facts.get(EPOCHS)) or middle(np.diff(steps)) >= STRIDE


class LossMeans(TickRule):
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
        if (
            not are_means(self.context, self.steps(self.needs))
            or not (0 < self.best < math.inf)
            or not self.first > 0
        ):
            return QUIET
        limits = self.limits
        level = float(self.last(HIGH).min())
        ratio = level / self.best
        over = ratio >= limits["ratio"] and level >= limits["over_first"] * self.first
        lost = ratio >= limits["ratio"] and self.best <= limits["learnt"] * self.first
        lost &= level >= limits["gone"] * self.first
        thrown = self._thrown()
        if not (over or lost or thrown):
            self.high_step = -1
            return Verdict(KEEP) if ratio >= limits["twice"] else QUIET
        if self.high_step < 0:
            self.high_step = int(self.steps(HIGH)[0])
        if self.context.competes(self.scope) or self.context.pays(self.step):
            return Verdict(1, self.high_step, self._say(level, thrown))
        critical = ratio >= limits["critical"] and level >= limits["steep"] * self.first
        return Verdict(3 if critical else 2, self.high_step, self._say(level, thrown))

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
        high = float(self.last(8).min()) >= limits["twice"] * self.best
        return high and not self.decayed and self.most >= limits["rate"] * self.best_rate > 0

    def _say(self, level: float, thrown: bool) -> Said:
        times = level / self.best
        evidence = [
            Evidence(
                label="Loss, lowest of the last six",
                value=number(level),
                limit=number(self.limits["twice" if thrown else "ratio"] * self.best),
                kind="loss",
                scope=self.scope,
            )
        ]
        rose = ""
        if thrown:
            value = f"{number(self.best_rate)} → {number(self.most)}"
            rose = f" The learning rate rose meanwhile: {value}."
            evidence.append(
                Evidence(label=labels.RATE_ROSE, value=value, kind="lr", scope=self.scope)
            )
        return Said(
            title=f"Loss {short(times)}x above its best: {short(level)}",
            message=(
                f"None of the last {HIGH} records up to step {self.step} is below {number(level)}; "
                f"at step {self.best_step} the loss was {number(self.best)}, it began at "
                f"{number(self.first)}. Each record is a mean over many steps, so this is no "
                f"noise.{rose}"
            ),
            evidence=tuple(evidence),
            kind="loss",
        )
