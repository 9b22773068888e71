"""Rule 9: steps that are too large for the weights they change, or too small to change them.

Typical is an update of a thousandth of the weights. Names the cause where the loss shows it.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

SMALL_IN_HALF = {"bfloat16": 2.0**-12, "float16": 2.0**-15}
"""A sixteenth of the distance of neighbouring numbers, as a share of them: if weights moved by less
on the whole, most of them did not move."""


class UpdateRatio(LayerRule):
    """Median over the layers of |update| / |weights|, over the last reports."""

    name = "update_ratio"
    kind = "update_ratio_layer"
    calm = "Updates of an ordinary size again"

    def judge(self) -> Verdict:
        limits = self.limits
        if self.ring.count < limits["reports"] or not self.names:
            return QUIET
        window = self.last(limits["reports"])
        window = window[np.isfinite(window).any(axis=1)]
        ratios = np.nanmedian(window, axis=1)
        if not ratios.size:
            return QUIET
        # biases, norm layers and weights that start at 0 break the ratio: half of the layers must
        middle = float(np.median(ratios))
        gained = self.progress.gained(self.step, 16)
        stuck = not math.isnan(gained) and gained <= limits["gained"]
        if middle > limits["large"]:
            lost = self.progress.rising(self.step, 40) or gained < 0
            if stuck and lost and not self.context.competes(self.scope):
                return Verdict(2, -1, self._say("large", middle, limits["large"]))
            return Verdict(1, -1, self._say("large", middle, limits["large"]))
        half = SMALL_IN_HALF.get(self.context.facts.get("weights_dtype", ""), 0.0)
        small = max(limits["small"], half)
        if middle < small and stuck and not self.progress.falling(self.step):
            enough = self.step >= min(
                limits["patience"], max(limits["least"], 0.5 * self.context.planned())
            )
            return Verdict(2 if enough else 1, -1, self._say("small", middle, small))
        return Verdict(KEEP) if middle < small else QUIET

    def _say(self, what: str, ratio: float, limit: float) -> Said:
        newest = np.nan_to_num(self.last(1)[:, 0], nan=-1.0)
        layer = self.names[int(np.argmax(newest))]
        means = "throws the weights about" if what == "large" else "leaves the weights as they are"
        return Said(
            title=f"Updates too {what}: {short(ratio)} of the weights a step",
            message=(
                f"Half of the layers change by {'more' if what == 'large' else 'less'} than "
                f"{number(ratio)} of their weights at each step (typical 0.001, limit "
                f"{number(limit)}): a step {means}. The loss shows it."
            ),
            evidence=(
                Evidence(
                    label="Update over weights, median",
                    value=number(ratio),
                    limit=number(limit),
                    kind=self.kind,
                    scope=self.scope,
                ),
            ),
            kind=self.kind,
            layer=layer if what == "large" else "",
        )
