"""Gradient norms that have become orders of magnitude larger than those of the untrained model, at
whatever pace: growth too slow, too early or too uneven for a rule on its speed."""

from __future__ import annotations

import math

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

RECENT = 32


class GradLevel(TickRule):
    """Median of the last 32 norms against the first 32."""

    name = "grad_level"
    reads = ("grad_norm",)
    beside = ("clip_threshold",)
    keep = 2 * RECENT
    needs = 2 * RECENT
    every = 16
    calm = "Gradient norm back near where it began"
    OWN = ("first", "most")

    def begin(self) -> None:
        self.first = self.most = math.nan
        """Median and largest of the first 32 norms."""

    def judge(self) -> Verdict:
        limits = self.limits
        if math.isnan(self.first):
            untrained = self.last(2 * RECENT)[:RECENT]
            self.first, self.most = middle(untrained), float(untrained.max())
        level = middle(self.last(RECENT))
        clip = float(self.last(1, "clip_threshold")[0])
        floor = limits["floor_values" if self.context.learns_values() else "floor"]
        floor = max(floor, limits["floor_clips"] * clip) if math.isfinite(clip) else floor
        least = max(limits["times"] * self.first, limits["over_most"] * self.most, floor)
        if level >= least:
            return Verdict(2, int(self.steps(RECENT)[0]), self._say(level, clip))
        return Verdict(KEEP) if self.alarm.level and level >= least / 3 else QUIET

    def _say(self, level: float, clip: float) -> Said:
        times = level / self.first if self.first > 0 else math.inf
        known = math.isfinite(clip)
        return Said(
            title=f"Gradient norm {short(times)}x what it began with: {short(level)}",
            message=(
                f"Median of the last {RECENT} gradient norms is {number(level)} at step "
                f"{self.step}; those of the untrained model had {number(self.first)}, at most "
                f"{number(self.most)}."
            ),
            evidence=(
                Evidence(
                    label="Gradient norm",
                    value=number(level),
                    limit=f"clip {number(clip)}" if known else "no clip",
                    kind="grad_norm",
                    scope=self.scope,
                ),
                Evidence(
                    label="Over the untrained model's",
                    value=f"{short(times)}x",
                    limit=f"{short(self.limits['times'])}x",
                    kind="grad_norm",
                    scope=self.scope,
                ),
            ),
            kind="grad_norm",
        )
