"""A loss that stands at ln 2, ln 10, ln 100 or ln 1000, what guessing among so many costs, in a log
of few records, each a mean over many steps. `plateau` speaks of logs that hold every step."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.block import F64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.means_rule import MeansRule
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, Verdict
from nanwatch_server.domain.facts import short
from nanwatch_server.domain.models import Evidence

LN_CLASSES = (2, 10, 100, 1000)
"""As many as most data sets have. Where the configuration names another number, none of these."""
RECORDS, FIRST = 24, 4


class CoinToss(MeansRule):
    """All of the last 24 records against ln 2, ln 10, ln 100 and ln 1000."""

    name = "coin_toss"
    reads = ("loss",)
    keep = RECORDS
    needs = RECORDS
    calm = "Loss has left the cost of guessing"
    OWN = ("first",)

    def begin(self) -> None:
        self.first = math.nan
        """Highest of the first records: a loss that came down to ln k has learnt."""

    def judge(self) -> Verdict:
        losses = self.last(RECORDS)
        if math.isnan(self.first):
            self.first = float(losses[:FIRST].max())
        classes = next((k for k in LN_CLASSES if self._near(losses, k)), 0)
        if not classes or not self.advances(RECORDS):
            return QUIET
        cost = math.log(classes)
        falls = middle(losses[:8]) - middle(losses[-8:]) > self.limits["falls"] * cost
        came_down = self.first > self.limits["came_down"] * cost
        others = abs(self.context.guessing() / cost - 1) > self.limits["within"]
        if falls or came_down or others:
            return QUIET
        if self.context.competes(self.scope) or self.context.learns_policy():
            return QUIET  # a discriminator that cannot tell is what a generator wants
        return Verdict(2, int(self.steps(RECORDS)[0]), self._say(losses, classes))

    def _within(self, classes: int) -> float:
        return self.limits["within" if classes == 2 else "within_more"]

    def _near(self, losses: F64, classes: int) -> bool:
        return bool((np.abs(losses / math.log(classes) - 1) <= self._within(classes)).all())

    def _say(self, losses: F64, classes: int) -> Said:
        low, high, cost = f"{losses.min():.4f}", f"{losses.max():.4f}", f"{math.log(classes):.4f}"
        among = "between two" if classes == 2 else f"among {classes}"
        return Said(
            title=f"Loss stands at ln {classes} in {RECORDS} records: guessing {among}",
            message=(
                f"The last {RECORDS} records up to step {self.step} lie between {low} and {high}; "
                f"ln {classes} = {cost} is what a cross-entropy costs that finds all classes as "
                "likely for everything. Nothing is learnt: labels that do not go with the inputs, "
                "inputs that say nothing, a rate that is too low or too high, or a layer without "
                "gradient."
            ),
            evidence=(
                Evidence(
                    label=f"Loss over {RECORDS} records",
                    value=f"{low} to {high}",
                    limit=f"{cost} ± {short(100 * self._within(classes))} %",
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
