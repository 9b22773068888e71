"""RL pack: a critic that runs away from its target network. A mark."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence


class TargetGap(TickRule):
    """Gap between critic and target, as a share of the values."""

    name = "target_gap"
    reads = ("q_target_gap",)
    beside = ("q_mean", "q_std")
    keep = 32
    needs = 64
    calm = "Critic and target agree again"

    def judge(self) -> Verdict:
        gap = float(np.median(np.abs(self.last(32))))
        size = np.fmax(np.abs(self.last(32, "q_mean")), self.last(32, "q_std"))
        scale = float(np.nanmedian(size)) if np.isfinite(size).any() else float("nan")
        # `not >` also where the size of the values is unknown
        if not gap > self.limits["share"] * max(scale, self.limits["floor"]):
            return QUIET
        said = Said(
            title=f"Critic and target differ by {number(gap)}, values are about {number(scale)}",
            message=(
                f"The critic's mean and its target's differ by {number(gap)} (median of 32 "
                f"records) at step {self.step}, more than {number(self.limits['share'])} times "
                "the values themselves: each target is out of date when it is used."
            ),
            evidence=(
                Evidence(
                    label="Gap to the target",
                    value=number(gap),
                    limit=number(self.limits["share"] * scale),
                    kind="q_target_gap",
                    scope=self.scope,
                ),
            ),
            kind="q_target_gap",
        )
        return Verdict(1, int(self.steps(32)[0]), said)
