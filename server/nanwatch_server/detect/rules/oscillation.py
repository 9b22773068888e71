"""Rule 14: a loss that swings more and more. Never more than a mark: GANs and PPO do."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class Oscillation(TickRule):
    """Changes of direction of the median of 5, and how far it swings against before."""

    name = "oscillation"
    reads = ("loss",)
    keep = 256
    needs = 256
    every = 32
    calm = "Loss swings less again"

    def judge(self) -> Verdict:
        limits = self.limits
        window = self.last(256)
        before, now = window[:128], window[-64:]
        swing = middle(np.abs(now - middle(now)))
        usual = middle(np.abs(before - middle(before)))
        if not swing > limits["grew"] * max(usual, 1e-3 * abs(middle(before))):
            return QUIET
        smooth = np.median(np.lib.stride_tricks.sliding_window_view(now, 5), axis=1)
        turns = np.diff(smooth)
        share = float(np.mean(turns[1:] * turns[:-1] < 0))
        if share < limits["turns"]:
            return QUIET
        said = Said(
            title=f"Loss swings {short(swing / max(usual, 1e-300))}x wider than before",
            message=(
                f"The loss of the last 64 records swings by {number(swing)} (median deviation) at "
                f"step {self.step}, {number(usual)} before, and changes direction at "
                f"{round(100 * share)} % of them."
            ),
            evidence=(Evidence(label="Swing", value=number(swing), kind="loss", scope=self.scope),),
            kind="loss",
        )
        return Verdict(1, int(self.steps(64)[0]), said)
