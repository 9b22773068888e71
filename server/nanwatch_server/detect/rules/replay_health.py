"""Rule 16: in continual learning, the loss on replayed memories against the loss on new data.

Reads series that the script logs under names of its own (`replay_loss`, `buffer_loss`, `der_loss`).
"""

from __future__ import annotations

import math
import re

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import deviation, log_or_nan, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

_REPLAY = re.compile(
    r"(replay|buffer|memory|distill|(?<![a-z])der)[a-z_]*loss|loss[a-z_./]*(replay|buffer)"
)


class ReplayHealth(TickRule):
    """Ratio of the two losses: robust z of its logarithm against the records before."""

    name = "replay_health"
    reads = ("loss",)
    keep = 160
    needs = 96
    calm = "Replay loss back to its usual share"

    @classmethod
    def wants(cls, block: Block) -> bool:
        """True if the block has a loss and a replay loss."""
        return "loss" in block.scalars and cls._row(block) >= 0

    @classmethod
    def missing(cls, seen: set[str]) -> str:
        """Why it could not run."""
        return super().missing(seen) or "no series called like a replay loss"

    @staticmethod
    def _row(block: Block) -> int:
        names = block.layers.get("custom", ((), None))[0]
        return next((row for row, name in enumerate(names) if _REPLAY.search(name.lower())), -1)

    def values(self, block: Block) -> F64:
        """Replay loss over loss."""
        return np.abs(block.layers["custom"][1][self._row(block)] / block.scalars["loss"])

    def judge(self) -> Verdict:
        limits = self.limits
        logs = log_or_nan(self.last(152))
        logs = logs[np.isfinite(logs)]
        if len(logs) < 64:
            return QUIET
        past, recent = logs[:-24], logs[-24:]
        level = middle(past)
        spread = max(deviation(past, level), limits["floor"])
        far = recent - level > np.maximum(limits["sigma"] * spread, math.log(limits["times"]))
        hits = int(far.sum())
        if hits < limits["often"]:
            return Verdict(KEEP) if hits else QUIET
        ratio, usual = math.exp(middle(recent)), math.exp(level)
        said = Said(
            title=f"Replay loss is {short(ratio)}x the loss, usually {short(usual)}x",
            message=(
                f"In {hits} of the last 24 records the loss on replayed samples stood far above "
                f"its usual share of the loss ({number(usual)}); it is {number(ratio)} at step "
                f"{self.step}. Stored targets no longer fit, or some are broken."
            ),
            evidence=(
                Evidence(label="Replay over loss", value=number(ratio),
                         limit=number(usual * limits["times"]), kind="custom", scope=self.scope),
            ),
            kind="custom",
        )  # fmt: skip
        return Verdict(2, int(self.steps(24)[int(np.argmax(far))]), said)
