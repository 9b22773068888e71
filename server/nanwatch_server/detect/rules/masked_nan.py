"""A finite loss over gradients that are not: something between the two replaces NaN.

`nan_to_num`, `nanmean` or a filter of the trainer make the printed loss look alive while every
applied update writes NaN into the weights.
"""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import KEEP, unknown
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.tick import SpeakingRule, Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence, Finding

LOUD = 1e12
"""A loss so many times the untrained model's (at least 1) shows the trouble itself."""


class MaskedNaN(SpeakingRule):
    """Applied updates in a row whose loss is finite and whose gradient is not."""

    name = "masked_nan"
    kind = "grad_norm"
    reads = ("grad_norm", "loss")
    calm = "Gradients are finite again"
    STATE = ("alarm", "streak", "since")

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.restart()

    def restart(self) -> None:
        self.streak = 0
        self.since = -1
        """Step at which the streak began."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        norm, loss = block.scalars["grad_norm"], block.scalars["loss"]
        bad = block.scalars.get("nonfinite", np.full(len(block), np.nan)) > 0
        if not self.streak and not np.count_nonzero(bad) and self.alarm.rests(len(block), ()):
            return []  # nearly always
        applied = block.scalars.get("update_applied", np.ones(len(block)))
        # A norm that was not measured is NaN too: such an attempt says nothing either way.
        known = np.flatnonzero(np.isfinite(norm) | bad)
        # a loss that explodes hides nothing
        usual = LOUD * max(abs(self.progress.first), 1.0)
        masked = bad & (applied == 1) & np.isfinite(loss) & ~(np.abs(loss) > usual)
        severities = unknown(norm)
        severities[known] = 0
        verdicts: dict[int, Verdict] = {}
        for at in known.tolist() if masked.any() or self.streak else ():
            if not masked[at]:
                self.streak = 0
                continue
            if not self.streak:
                self.since = int(block.steps[at])
            self.streak += 1
            if self.streak > self.limits["records"]:
                severities[at] = KEEP
            elif self.streak == self.limits["records"]:
                severities[at] = 3
                step = int(block.steps[at])
                verdicts[at] = Verdict(3, self.since, self._say(float(loss[at]), step))
        return self.speak(block, severities, verdicts)

    def _say(self, loss: float, step: int) -> Said:
        return Said(
            title=f"Loss reads {number(loss)} while gradients are NaN",
            message=(
                f"The last {self.streak} updates, since step {self.since}, were applied with "
                f"gradients that are not finite, yet the loss at step {step} is "
                f"{number(loss)}: something between weights and loss replaces NaN by a number "
                "(nan_to_num, nanmean, a filter of the trainer). The weights are NaN by now."
            ),
            evidence=(
                Evidence(
                    label="Updates by NaN under a finite loss",
                    value=str(self.streak),
                    limit=str(self.limits["records"]),
                    kind="grad_norm",
                    scope=self.scope,
                ),
            ),
            kind="grad_norm",
        )
