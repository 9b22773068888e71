"""The loss scale of mixed precision: a collapse says that gradients overflow whatever the scale."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import F64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class LossScale(TickRule):
    """The scale against 1 and against its highest of late."""

    name = "loss_scale"
    reads = ("loss_scale",)
    keep = 128
    needs = 24
    calm = "Loss scale recovered"
    OWN = ("searching", "found")

    def begin(self) -> None:
        self.searching = True
        """No scale has held yet."""
        self.found = -1
        """Step from which on one held."""

    def _settled(self, window: F64) -> bool:
        """True once a scale was kept for 16 attempts, or raised."""
        if float(window[-1]) > float(np.min(window)) or (window[-16:] == window[-1]).all():
            self.found = self.step
            return True
        return False

    def judge(self) -> Verdict:
        limits = self.limits
        window = self.last(128)
        now = float(window[-1])
        if self.searching:
            # a scale that has only fallen since the start is still being found, however high it was
            self.searching = not self._settled(window)
            if self.searching and now >= limits["critical"]:
                return QUIET
        # what was tried before a scale held says nothing
        held = np.where(self.steps(128) >= self.found, window, now)
        high = float(np.max(held))
        if self.count <= limits["exempt"] or not now > 0:
            return QUIET
        fell = high / now
        if now < limits["critical"] and fell > 1:
            severity = 3
        elif fell >= limits["fell"]:
            severity = 2
        else:
            return Verdict(KEEP) if now < 4 * limits["critical"] else QUIET
        onset = int(self.steps(128)[int(np.argmax(held)) :][0])
        said = Said(
            title=f"Loss scale collapsed from {short(high)} to {number(now)}",
            message=(
                f"The gradient scaler went from {number(high)} to {number(now)} by step "
                f"{self.step}: gradients overflow fp16 at every scale it tries, which is the "
                "earliest sign of divergence in half precision."
            ),
            evidence=(
                Evidence(
                    label="Loss scale",
                    value=number(now),
                    limit=number(limits["critical"]),
                    kind="loss_scale",
                    scope=self.scope,
                ),
            ),
            kind="loss_scale",
        )
        return Verdict(severity, onset, said)
