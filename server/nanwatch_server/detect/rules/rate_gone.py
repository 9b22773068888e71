"""A learning rate that has decayed to a sliver of itself before anything was learnt: a schedule
meant for epochs that is stepped once a batch, or one that ends too early."""

from __future__ import annotations

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import TICK
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class RateGone(TickRule):
    """The rate against its largest so far, where the loss stands where it began."""

    name = "rate_gone"
    reads = ("lr",)
    keep = TICK
    every = 16
    calm = "Learning rate back, or the loss moves"
    OWN = ("most", "since")

    def begin(self) -> None:
        self.most = 0.0
        self.since = -1
        """Step at which the rate had become so small."""

    def judge(self) -> Verdict:
        limits = self.limits
        recent = self.last(TICK)
        self.most = max(self.most, float(recent.max()))
        rate = float(recent[-1])
        if rate <= 0 or rate > limits["share"] * self.most:
            self.since = -1
            return QUIET  # of a rate of 0 `idle_weights` speaks
        self.since = self.step if self.since < 0 else self.since
        known = self.progress
        if known.upto(self.step, 1024).size * TICK < limits["records"] or not known.first > 0:
            return Verdict(KEEP)
        planned = self.context.planned()
        if limits["over"] * planned <= self.since <= self.step <= planned:
            return Verdict(KEEP)  # the schedule ends with the run: `plateau` has its say
        learns = not known.gained(self.step, 16) <= limits["gained"]
        if learns or known.falling(self.step) or self.context.competes(self.scope):
            return Verdict(KEEP)
        return Verdict(2, self.since, self._say(rate))

    def _say(self, rate: float) -> Said:
        return Said(
            title=f"Learning rate fell to {short(rate)} before anything was learnt",
            message=(
                f"The learning rate is {number(rate)} at step {self.step}, "
                f"{short(rate / self.most)} of its largest, {number(self.most)}; the loss stands "
                "where it began, and steps of this size will not move it."
            ),
            evidence=(
                Evidence(
                    label="Learning rate",
                    value=number(rate),
                    limit=number(self.limits["share"] * self.most),
                    kind="lr",
                    scope=self.scope,
                ),
            ),
            kind="lr",
        )
