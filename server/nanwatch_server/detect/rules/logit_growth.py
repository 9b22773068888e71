"""Rule 6 on logits: of the output (cured by z-loss) and of attention (cured by qk-norm)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nanwatch_server.detect.block import F64, I64
from nanwatch_server.detect.growth import Stretch
from nanwatch_server.detect.growth_rule import GrowthRule
from nanwatch_server.detect.tick import Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence

TOLD_BY = 16
"""Steps by which there is a first median of the loss."""


class LogitGrowth(GrowthRule):
    """Largest output logit."""

    name = "logit_growth"
    kind = "logit_max"
    what = "Largest logit"
    calm = "Logits no longer grow"
    STATE = (*GrowthRule.STATE, "first")

    def restart(self) -> None:
        super().restart()
        self.first = math.nan
        """Level of the first 8 records."""

    def _calm(self, logs: F64, stretch: Stretch) -> bool:
        bounded = np.maximum.reduce(logs, axis=None) < math.log(self.limits["unbounded"])
        return bool(bounded) and super()._calm(logs, stretch)

    def _judge(self, steps: I64) -> Verdict:
        verdict = super()._judge(steps)
        level = float(self.bank.level()[0])
        if math.isnan(self.first):
            self.first = level
        return verdict if verdict.severity >= 2 else self._unbounded(level, steps) or verdict

    def _harmless(self, level: float, step: int) -> bool:
        """A likelihood of classes is wrong by about as much as its logits are large. A loss far
        below them is of another kind: counts, prices, anything on a scale of its own."""
        newest = self.progress.upto(step, 1)
        size, most = math.exp(min(700.0, level)), self.limits["absolute"]
        if math.isfinite(self.context.guessing()) or not size < most:
            return False
        if not newest.size:
            return step < TOLD_BY
        return bool(abs(newest[-1]) < self.limits["loss_share"] * size)

    def _unbounded(self, level: float, steps: I64) -> Verdict | None:
        """Logits that carry the loss below zero, which no likelihood of classes can be: the
        objective has no bottom, and nothing else ends the growth."""
        limits, step = self.limits, int(steps[-1])
        newest = self.context.progress_of(self.scope).upto(step, 1)
        loss = float(newest[-1]) if newest.size else math.nan
        grown = level - self.first >= math.log(limits["times"])
        if not (grown and level >= math.log(limits["unbounded"])):
            return None
        if not -loss >= limits["unbounded_share"] * math.exp(min(700.0, level)):
            return None
        said = self._say(0, step)
        return Verdict(
            2,
            int(steps[0]),
            replace(
                said,
                title=f"Logits of {number(math.exp(level))} carry the loss to {number(loss)}",
                message=f"The largest logit is {number(math.exp(level))} at step {step}, began at "
                f"{number(math.exp(self.first))}, and the loss is {number(loss)}, below anything a "
                "likelihood of classes can be: the objective has no bottom.",
                evidence=(
                    said.evidence[0],
                    Evidence(label="Loss", value=number(loss), limit="0", kind="loss",
                             scope=self.scope),
                ),
                doubling_steps=None,
            ),
        )  # fmt: skip


class AttentionGrowth(GrowthRule):
    """Largest attention logit, per layer."""

    name = "attention_growth"
    kind = "attention_logit_max_layer"
    per_layer = True
    what = "Attention logit"
    calm = "Attention logits no longer grow"
