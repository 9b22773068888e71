"""RL pack: a value function that explains less than no value function would."""

from __future__ import annotations

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class ExplainedVariance(TickRule):
    """Median of the last 64 records, after the first ones: it begins below 0 in good health."""

    name = "explained_variance"
    reads = ("explained_variance",)
    keep = 64
    calm = "The value function explains returns again"

    def judge(self) -> Verdict:
        limits = self.limits
        if self.count < limits["records"]:
            return QUIET
        level = middle(self.last(64))
        if level >= limits["notice"]:
            return QUIET
        if level >= limits["warning"]:
            return Verdict(KEEP if self.alarm.level >= 2 else 1, -1, self._say(level))
        return Verdict(2, int(self.steps(64)[0]), self._say(level))

    def _say(self, level: float) -> Said:
        return Said(
            title=f"Value function explains {short(100 * level)} % of the returns",
            message=(
                f"Explained variance has a median of {number(level)} over the last 64 records at "
                f"step {self.step}: below 0 it is worse than a constant, so advantages are noise."
            ),
            evidence=(
                Evidence(
                    label="Explained variance",
                    value=number(level),
                    limit=number(self.limits["warning"]),
                    kind="explained_variance",
                    scope=self.scope,
                ),
            ),
            kind="explained_variance",
        )
