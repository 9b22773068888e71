"""A loss that stands at ln 2, what guessing between two costs, in a log of few records, each a mean
over many steps. `plateau` speaks of logs that hold every step."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.rules.loss_means import are_means
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import short
from nanwatch_server.domain.models import Evidence

LN_2 = math.log(2)
RECORDS = 24


class CoinToss(TickRule):
    """All of the last 24 records against ln 2."""

    name = "coin_toss"
    reads = ("loss",)
    keep = RECORDS
    needs = RECORDS
    calm = "Loss has left the cost of guessing"

    def judge(self) -> Verdict:
        losses = self.last(RECORDS)
        near = np.abs(losses / LN_2 - 1) <= self.limits["within"]
        if not near.all() or not are_means(self.context, self.steps(RECORDS)):
            return QUIET
        if self.context.competes(self.scope) or self.context.learns_policy():
            return QUIET  # a discriminator that cannot tell is what a generator wants
        return Verdict(2, int(self.steps(RECORDS)[0]), self._say(losses))

    def _say(self, losses: np.ndarray) -> Said:
        low, high = f"{losses.min():.4f}", f"{losses.max():.4f}"
        return Said(
            title=f"Loss stands at ln 2 in {RECORDS} records: guessing between two",
            message=(
                f"The last {RECORDS} records up to step {self.step} lie between {low} and {high}; "
                "ln 2 = 0.6931 is what a binary cross-entropy costs that says one half to "
                "everything. Nothing is learnt: labels that do not go with the inputs, inputs that "
                "say nothing, a rate that is too low or too high, or a layer without gradient."
            ),
            evidence=(
                Evidence(
                    label=f"Loss over {RECORDS} records",
                    value=f"{low} to {high}",
                    limit=f"0.6931 ± {short(100 * self.limits['within'])} %",
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
