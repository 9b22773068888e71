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
        # a value that is written again until the next comes, or in few digits, is no stand-in
        if np.count_nonzero(losses[1:] == losses[:-1]) > self.limits["repeated"] * len(losses):
            low = losses[losses < self.limits["far"] * usual]
            if np.count_nonzero(low[1:] == low[:-1]) > self.limits["repeated"] * len(low):
                return QUIET
        values, counts = np.unique(high, return_counts=True)
        most = int(np.argmax(counts))
        if counts[most] < self.limits["times"] or len(np.unique(losses)) < len(losses) / 4:
            return QUIET
        visits = np.flatnonzero(losses == values[most])
        if np.count_nonzero(np.diff(visits) > 1) < self.limits["visits"] - 1:
            return QUIET
        first = int(self.steps(WINDOW)[int(np.argmax(losses == values[most]))])
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
