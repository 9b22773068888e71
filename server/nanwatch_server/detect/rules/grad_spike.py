"""Rule 4 on the total gradient norm: spikes against the last 128 records. Marks, not alarms.

Spikes that become the rule are what new tasks, penalties that rise and heavy tails show in good
health (R asks for a warning at 5 of 20); those that are harm show in the loss or grow further,
which `loss_spike` and `grad_explosion` tell.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import deviation, log_or_nan, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

RECENT = 24


class GradSpike(TickRule):
    """Robust z of the logarithm over median and MAD."""

    name = "grad_spike"
    reads = ("grad_norm",)
    keep = 256
    needs = 96
    calm = "Gradient norm without spikes for 200 records"

    def judge(self) -> Verdict:
        limits = self.limits
        logs = log_or_nan(self.last(128 + RECENT))
        logs = logs[np.isfinite(logs)]
        if len(logs) < 64:
            return QUIET
        if logs[-8:].max() - logs.min() <= math.log(limits["times"]):
            return QUIET  # nothing can stand so far above the median
        past, recent = logs[:-RECENT], logs[-RECENT:]
        level = middle(past)
        spread = max(deviation(past, level), limits["floor"])
        far = (recent - level > limits["sigma"] * spread) & (
            recent - level >= math.log(limits["times"])
        )
        hits = int(far.sum())
        if not far[-8:].any():
            return QUIET
        top = float(np.exp(min(700.0, recent.max())))
        onset = int(self.steps(RECENT)[int(np.argmax(far))])
        return Verdict(1, onset, self._say(top, math.exp(level), hits))

    def _say(self, top: float, usual: float, hits: int) -> Said:
        many = f"{hits} of the last {RECENT} records" if hits > 1 else "one record"
        return Said(
            title=f"Gradient norm spikes to {short(top)}, usually {short(usual)}",
            message=(
                f"{many[0].upper()}{many[1:]} stood more than {number(self.limits['times'])} times "
                f"above the median of the 128 before, {number(usual)}; the largest is "
                f"{number(top)} at step {self.step}."
            ),
            evidence=(
                Evidence(
                    label="Gradient norm",
                    value=number(top),
                    limit=number(usual * self.limits["times"]),
                    kind="grad_norm",
                    scope=self.scope,
                ),
            ),
            kind="grad_norm",
        )
