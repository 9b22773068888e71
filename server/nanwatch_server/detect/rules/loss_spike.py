"""Rule 5 on the loss: a spike that does not heal, down to a loss that is back where it began.

A spike alone is a notice. What tells the malignant ones is what was learnt and is gone: the share
of the way from the first loss to the best one that a spike undid, for long and without recovery;
or, where a loss has come down by powers of ten, that it stays a multiple of what it was.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import TICK, deviation, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

MEDIAN_OVER = 24
"""Records of one level: three ticks."""
RATE_OVER = 32
"""Records on either side of a rise of the rate."""


class LossSpike(TickRule):
    """The level of the loss against its best and its beginning, after a rise that was sudden."""

    name = "loss_spike"
    reads = ("loss",)
    beside = ("lr",)
    keep = 256
    needs = 64
    calm = "Loss back where it was before the spike"
    OWN = ("first", "best", "best_spread", "since", "before", "low")

    def begin(self) -> None:
        self.first = math.nan
        """Level of the untrained model."""
        self.best = math.inf
        """Lowest level so far."""
        self.best_spread = 0.0
        self.since = -1
        """Step at which the present episode began; -1 outside of one."""
        self.before = math.nan
        """Level before the episode."""
        self.low = math.inf
        """Lowest level within the episode, later than its first ticks."""

    def judge(self) -> Verdict:
        recent = self.last(MEDIAN_OVER)
        level = middle(recent)
        spread = deviation(recent, level)
        if math.isnan(self.first):
            # of what learns fast only the first few records show the untrained model
            early = self.last(64)
            self.first = max(middle(early[:MEDIAN_OVER]), middle(early[:TICK]))
        verdict = self._episode(level)
        if level < self.best:
            self.best, self.best_spread = level, spread
        return verdict

    def _episode(self, level: float) -> Verdict:
        limits = self.limits
        learnt = self.first - self.best
        if not math.isfinite(self.best) or learnt <= limits["learnt"] * abs(self.first):
            return QUIET  # nothing that could be lost
        sigma = max(self.best_spread, limits["floor"] * abs(self.best))
        lost = (level - self.best) / learnt
        if self.since < 0:
            return self._entered(level, lost, sigma)
        times = self._times(level, self.before)
        back = lost < limits["lost"] / 2 and times < limits["times_end"]
        if back or level < self.before + 3 * sigma:
            self.since = -1
            return QUIET
        records = int(np.count_nonzero(self.steps(self.keep) >= self.since))
        patience = limits["records"]
        if records < patience:
            return Verdict(KEEP)
        half = self.last(min(records, self.keep))
        first, last = middle(half[: len(half) // 2]), middle(half[len(half) // 2 :])
        healing = first - last > limits["healing"] * max(first - self.best, 1e-300)
        halves = last < limits["halves"] * first
        gone = lost >= limits["lost"] and not healing
        # a warm restart throws back as well, and is meant to
        meant = self._rate_rose() and self.progress.falling(self.step, records // TICK)
        healing = halves or meant
        if not gone and (healing or self._times(level, self.best) < limits["times"]):
            return Verdict(KEEP)
        worse = 1 if self.context.competes(self.scope) else 2
        return Verdict(worse, self.since, self._say(level, lost))

    def _entered(self, level: float, lost: float, sigma: float) -> Verdict:
        window = self.last(128)
        if len(window) < 96:
            return QUIET
        before = middle(window[:-32])
        rose = level - before
        much = lost >= self.limits["lost"] / 2 or self._times(level, before) >= self.limits["times"]
        sudden = rose > self.limits["sigma"] * sigma and much
        if not sudden or rose < 0.5 * (level - self.best):
            return QUIET
        tail, steps = self.last(32), self.steps(32)
        above = tail > before + 0.5 * rose
        self.since, self.before = int(steps[int(np.argmax(above))]), before
        return Verdict(1, self.since, self._say(level, lost))

    def _rate_rose(self) -> bool:
        """True if the learning rate rose where the episode began, as far as both are kept."""
        rates, steps = self.last(self.keep, "lr"), self.steps(self.keep)
        begun = int(np.searchsorted(steps, self.since))
        before = rates[max(0, begun - RATE_OVER) : begun]
        behind = rates[begun : begun + RATE_OVER]
        before, behind = before[np.isfinite(before)], behind[np.isfinite(behind)]
        if not len(before) or not len(behind):
            return False
        return bool(behind.max() > self.limits["rate_rose"] * before.min())

    def _times(self, level: float, before: float) -> float:
        """The level as a multiple of an earlier one; near 0 losses bounce by any multiple, and of
        those that reach it there is none: 0."""
        if not (before > 0 and self.first > 0):
            return 0.0
        return level / max(before, self.limits["foot"] * self.first)

    def _say(self, level: float, lost: float) -> Said:
        share, times = round(100 * min(lost, 99.0)), self._times(level, self.best)
        many = f": {short(times)}x the best" if times >= self.limits["times"] else ""
        what = f"Loss jumped from {short(self.before)} to {short(level)} and stays there"
        return Said(
            title=what,
            message=(
                f"Median of the last {MEDIAN_OVER} losses is {number(level)} at step {self.step}; "
                f"before step {self.since} it was {number(self.before)}. {share} % of what was "
                f"learnt (from {number(self.first)} to {number(self.best)}) is gone{many}."
            ),
            evidence=(
                Evidence(
                    label="Loss, median of 24",
                    value=number(level),
                    limit=number(self.before),
                    kind="loss",
                    scope=self.scope,
                ),
                self._loss_of(share, times),
            ),
            kind="loss",
        )

    def _loss_of(self, share: int, times: float) -> Evidence:
        """The number that says most: the share of the way, or the multiple of the best."""
        label, value, limit = "Progress lost", f"{share} %", f"{100 * self.limits['lost']:.0f} %"
        if share < 100 * self.limits["lost"] and times >= self.limits["times"]:
            label, value = "Times its best", f"{short(times)}x"
            limit = f"{short(self.limits['times'])}x"
        return Evidence(label=label, value=value, limit=limit, kind="loss", scope=self.scope)
