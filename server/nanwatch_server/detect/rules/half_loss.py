"""A loss that is computed in float16 and is large: single terms of it are near the end of the
format long before their mean is."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

LARGEST = float(np.finfo(np.float16).max)


class HalfLoss(TickRule):
    """Largest of the last losses against 65504, where the SDK says that they are float16."""

    name = "half_loss"
    reads = ("loss",)
    keep = 32
    calm = "The loss is far from the end of float16"

    def judge(self) -> Verdict:
        if self.context.facts.get(f"loss_dtype.{self.scope}".rstrip(".")) != "float16":
            return QUIET
        losses = np.abs(self.last(self.keep))
        largest = float(losses.max())
        if largest < LARGEST / self.limits["headroom"]:
            return QUIET
        said = Said(
            title=f"Loss of {short(largest)} in float16, which ends at {LARGEST:.0f}",
            message=(
                f"The loss is computed in float16 and was {number(largest)} within the last "
                f"{len(losses)} records up to step {self.step}. It is a mean: single terms are "
                f"many times as large, and the first one above {LARGEST:.0f} is infinite."
            ),
            evidence=(
                Evidence(
                    label="Largest loss, in float16",
                    value=number(largest),
                    limit=number(LARGEST / self.limits["headroom"]),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
        return Verdict(2, int(self.steps(self.keep)[int(losses.argmax())]), said)
