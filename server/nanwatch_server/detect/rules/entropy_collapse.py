"""RL pack: the policy has stopped exploring before it earned anything by it."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class EntropyCollapse(TickRule):
    """Entropy near 0 (discrete) against its first level, and the reward since then."""

    name = "entropy_collapse"
    reads = ("entropy",)
    beside = ("reward",)
    keep = 128
    needs = 32
    calm = "The policy explores again"
    OWN = ("first", "reward_first", "since")

    def begin(self) -> None:
        self.first = math.nan
        """Largest of the first 8 records."""
        self.reward_first = math.nan
        self.since = -1

    def judge(self) -> Verdict:
        limits = self.limits
        if math.isnan(self.first):
            # it may be gone within a few updates: the freest of the first ones counts
            self.first = float(self.last(32)[:8].max())
        reward = self._reward()
        if math.isnan(self.reward_first):
            early = self.last(32, "reward")[:8]
            early = early[np.isfinite(early)]
            self.reward_first = middle(early) if early.size else reward
        if self.last(self.keep).min() < 0:
            return QUIET  # of a density: it has no end, and 0 is no point of it
        level = middle(self.last(24))
        if not self.first > limits["floor"] or level > limits["share"] * self.first:
            self.since = -1
            return QUIET
        if self.since < 0:
            self.since = int(self.steps(24)[0])
        held = int(np.count_nonzero(self.steps(self.keep) >= self.since))
        if held < min(limits["records"], self.keep):
            return Verdict(KEEP)
        known = math.isfinite(reward) and math.isfinite(self.reward_first)
        gained = known and reward - self.reward_first > limits["gained"] * abs(self.reward_first)
        gained = gained and self.context.pays(self.step) is not False  # nor lost it again
        # within so few updates even a rising reward is no proof: it repeats what it found first
        excused = not known or (gained and self.since > limits["early"])
        doubled = known and reward - self.reward_first > abs(self.reward_first)
        excused = excused and (doubled or not self._gone(level))
        return Verdict(1 if excused else 2, self.since, self._say(level, known, gained))

    def _gone(self, level: float) -> bool:
        """True if next to nothing is left, and it went while most of the run was still to come. A
        policy that has found what there is becomes as sure as that at the end, if ever."""
        planned = self.context.planned()
        half = planned / 2 if math.isfinite(planned) else self.limits["gone_within"]
        return self.since <= half and level <= self.limits["gone"] * self.first

    def _reward(self) -> float:
        """Median of the rewards kept, where some were logged; else the run's rewards."""
        values = self.last(32, "reward")
        values = values[np.isfinite(values)]
        return middle(values) if values.size else self.context.earned(self.step)

    def _say(self, level: float, known: bool, gained: bool) -> Said:
        risen = "though the reward has risen" if gained else "and the reward has not risen"
        why = risen if known else "(no reward is logged)"
        return Said(
            title=f"Policy entropy collapsed to {short(level)} of {short(self.first)}",
            message=(
                f"Median entropy is {number(level)} at step {self.step}, it began at "
                f"{number(self.first)}, {why}: the policy repeats one action and cannot find a "
                "better one."
            ),
            evidence=(
                Evidence(
                    label="Entropy",
                    value=number(level),
                    limit=number(self.limits["share"] * self.first),
                    kind="entropy",
                    scope=self.scope,
                ),
            ),
            kind="entropy",
        )
