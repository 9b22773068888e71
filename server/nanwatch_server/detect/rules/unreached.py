"""Weights that no gradient reaches in a layer whose other parameters have one: an operation without
a gradient stands behind them (`round`, `argmax`, `.data`), or all their inputs are 0.

The norm of such a layer looks like any other: its bias learns how frequent the answers are.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import F64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence


class Unreached(LayerRule):
    """Share of a layer's weights whose gradient is exactly 0, in every one of the last reports."""

    name = "unreached"
    kind = "unreached_fraction_layer"
    calm = "Gradients reach these weights again"
    every = 8
    OWN = ("begun",)

    def begin(self) -> None:
        self.begun = -1
        """Step at which the present streak began; -1 outside of one."""

    def judge(self) -> Verdict:
        limits = self.limits
        records = min(self.keep, max(1, int(limits["records"])))
        if self.ring.count < records:
            return QUIET
        shares = self.last(records)
        # all of it: the layer is out of use for now, which its norm shows
        told = np.isfinite(shares)
        stuck = ((shares >= limits["share"]) & (shares < 1) | ~told).all(axis=1)
        stuck &= 2 * np.count_nonzero(told, axis=1) >= records
        if not stuck.any():
            self.begun = -1
            return QUIET
        if self.begun < 0:
            self.begun = int(self.trail.window(records)[0, 0])
        if self.step - self.begun < limits["patience"]:
            return Verdict(KEEP)
        newest = np.array([_newest(row) for row in shares])
        row = int(np.argmax(np.where(stuck, newest, -1.0)))
        gained = self.progress.gained(self.step, 16)
        learns = math.isnan(gained) or gained > limits["gained"]
        # where values are learnt a loss that falls is easy, and rewards may take long to be found
        long = self.step - self.begun >= limits["patience_values"]
        if self.context.learns_values() and self.context.never_paid(self.step):
            learns = learns and not long
        return Verdict(1 if learns else 2, self.begun, self._say(row, float(newest[row]), records))

    def _say(self, row: int, share: float, records: int) -> Said:
        layer, percent = self.names[row], min(99, round(100 * share))
        return Said(
            title=f"No gradient reaches {percent} % of the weights of layer {layer[-40:]}",
            message=(
                f"The gradient of {percent} % of the weights of layer {layer} was exactly 0 in "
                f"each of the last {records} reports up to step {self.step}, "
                "while the rest of the layer (its bias, often) has one: these weights cannot learn."
            ),
            evidence=(
                Evidence(
                    label="Weights with a gradient of 0",
                    value=f"{percent} %",
                    limit=f"{number(100 * self.limits['share'])} %",
                    kind=self.kind,
                    scope=self.scope,
                    layer=layer,
                ),
            ),
            kind=self.kind,
            layer=layer,
        )


def _newest(shares: F64) -> float:
    """The newest report of a layer, which need not be measured at every attempt; 0 without one."""
    known = shares[np.isfinite(shares)]
    return float(known[-1]) if known.size else 0.0
