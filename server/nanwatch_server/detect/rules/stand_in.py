"""One number, to the last bit, that comes back again and again far above the losses around it: what
a penalty (1e6), a clamp or `nan_to_num` puts in the place of a batch that has none."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence

WINDOW = 128


class StandIn(TickRule):
    """Equal values among the last 128 losses that stand far above their median."""

    name = "stand_in"
    reads = ("loss",)
    keep = WINDOW
    needs = 64
    calm = "The number no longer comes back"

    def judge(self) -> Verdict:
        losses = self.last(WINDOW)
        usual = middle(losses)
        high = losses[losses >= self.limits["far"] * usual]
        if not usual > 0 or len(high) < self.limits["times"]:
            return QUIET
        values, counts = np.unique(high, return_counts=True)
        most = int(np.argmax(counts))
        stands = losses == values[most]
        visits = np.count_nonzero(stands[1:] & ~stands[:-1])
        if counts[most] < self.limits["times"] or visits < self.limits["visits"]:
            return QUIET
        # what is written again until the next comes, or in few digits, repeats the others as well
        others = losses[~stands]
        if len(np.unique(others)) < self.limits["distinct"] * len(others):
            return QUIET
        first = int(self.steps(WINDOW)[int(np.argmax(stands))])
        return Verdict(2, first, self._say(float(values[most]), int(counts[most]), usual))

    def _say(self, value: float, count: int, usual: float) -> Said:
        return Said(
            title=f"Loss is exactly {number(value)} again and again: {count} times",
            message=(
                f"{count} of the last {WINDOW} losses up to step {self.step} are {number(value)} "
                f"to the last bit, the others are around {number(usual)}. No batch gives the same "
                "loss twice: a penalty, a clamp or a replaced NaN stands for batches that failed."
            ),
            evidence=(
                Evidence(
                    label="The same loss, times",
                    value=str(count),
                    limit=str(self.limits["times"]),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
