"""Rule 11: units that are always zero or at the end of their range. An alarm only where the loss
shows it, since sparse networks and tiny batches have many of them in good health."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import F64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain.models import Evidence


class DeadUnits(LayerRule):
    """Share of dead units per layer, median of three reports."""

    name = "dead_units"
    kind = "dead_fraction_layer"
    calm = "Units are alive again"
    OWN = ("since", "begun")
    words: ClassVar[str] = "dead"

    def begin(self) -> None:
        self.since = -1
        self.begun = -1
        """Step of the first report."""

    def judge(self) -> Verdict:
        limits = self.limits
        if not self.names:
            return QUIET
        newest = self.last(1)[:, 0]
        self.begun = self.step if self.begun < 0 else self.begun
        if self.ring.count < 3 or not np.isfinite(newest).any():
            return QUIET
        shares = np.array([_newest(row) for row in self.last(self.keep)])
        row = int(np.argmax(shares))
        share = float(shares[row])
        if share < limits["share"]:
            self.since = -1
            return QUIET
        if self.since < 0:
            self.since = int(self.trail.window(3)[0, 0])
        gained = self.progress.gained(self.step, 16)
        # a critic that chases what a better policy earns has no loss that comes down
        pays = self.context.earns(self.step)
        learns = math.isnan(gained) or gained > limits["gained"] or pays
        # a loss that comes down from above its start has not begun to learn by that
        recovering = self.progress.falling(self.step) and not gained < -limits["gained"]
        whole = share >= limits["critical"] and self.step - self.since >= limits["patience"]
        stuck = self.progress.rising(self.step, 40) or (whole and not recovering)
        stuck &= not pays
        if learns and not stuck:
            return Verdict(1, self.since, self._say(row, share))
        if share < limits["alarm"] or recovering or self.step - self.begun < limits["patience"]:
            return Verdict(KEEP)
        return Verdict(3 if share >= limits["critical"] else 2, self.since, self._say(row, share))

    def _say(self, row: int, share: float) -> Said:
        layer, percent = self.names[row], round(100 * share)
        return Said(
            title=f"{percent} % of the units of {layer[-40:]} are {self.words}",
            message=(
                f"{percent} % of the units of {layer} were {self.words} in the last three reports, "
                f"since step {self.since}."
            ),
            evidence=(
                Evidence(
                    label=f"Units {self.words}",
                    value=f"{percent} %",
                    limit=f"{round(100 * self.limits['share'])} %",
                    kind=self.kind,
                    scope=self.scope,
                    layer=layer,
                ),
            ),
            kind=self.kind,
            layer=layer,
        )


def _newest(shares: F64) -> float:
    """Median of the last three reports of a layer, which need not be those of others; -1 before
    there are three."""
    known = shares[np.isfinite(shares)][-3:]
    return float(np.median(known)) if len(known) == 3 else -1.0


class SaturatedUnits(DeadUnits):
    """The same of units at the end of the range of a tanh or sigmoid."""

    name = "saturated_units"
    kind = "saturated_fraction_layer"
    calm = "Units are within their range again"
    words = "saturated"
