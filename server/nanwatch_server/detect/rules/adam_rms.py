"""Adam's second moment lags behind: RMS above about 2.3 precedes loss spikes by one to eight steps.

A mark; it names the cause when a spike follows. Source: StableAdamW, arXiv:2304.13013, section 3.
"""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class AdamRms(TickRule):
    """Largest of the last 8 records."""

    name = "adam_rms"
    reads = ("adam_rms",)
    keep = 8
    needs = 16
    calm = "Adam's second moment keeps up again"

    def judge(self) -> Verdict:
        window = self.last(8)
        top = float(np.max(window))
        if top <= self.limits["high"]:
            return QUIET
        said = Said(
            title=f"Adam's steps are {short(top)}x too large: its second moment lags behind",
            message=(
                f"The root mean square of gradient over second moment reached {number(top)} (limit "
                f"{number(self.limits['high'])}) by step {self.step}; loss spikes follow one to "
                "eight steps later. A smaller beta2 (0.95) or StableAdamW's clipping cures it."
            ),
            evidence=(
                Evidence(
                    label="RMS of Adam's update",
                    value=number(top),
                    limit=number(self.limits["high"]),
                    kind="adam_rms",
                    scope=self.scope,
                ),
            ),
            kind="adam_rms",
        )
        return Verdict(1, int(self.steps(8)[int(np.argmax(window))]), said)
