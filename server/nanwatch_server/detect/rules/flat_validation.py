"""Evaluations that all give the same while the training loss stands still: the same data each time
show what the noise of batches hides, that nothing is learnt."""

from __future__ import annotations

import math

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.robust import TICK
from nanwatch_server.detect.tick import QUIET, EvaluationRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class FlatValidation(EvaluationRule):
    """Range of all evaluations so far but the first, which may be of the untrained model."""

    name = "flat_validation"
    calm = "Validation loss moves"
    STATE = ("alarm", "count", "low", "high", "begun", "trained")

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.trained = False
        """What goes on or is tuned further was trained before, and may well stand still."""

    def restart(self) -> None:
        self.trained = True
        self.count = 0
        self.low, self.high = math.inf, -math.inf
        self.begun = -1

    def judge(self, loss: float, step: int) -> Verdict:
        limits = self.limits
        self.count += 1
        self.begun = step if self.begun < 0 else self.begun
        if self.count > 1:
            self.low, self.high = min(self.low, loss), max(self.high, loss)
        size = max(abs(self.low), abs(self.high))
        if self.trained or self.count == 1:
            return QUIET
        if not 0 < self.high - self.low <= limits["range"] * size:
            return QUIET  # or the same to the last digit: whatever that is, it is no evaluation
        records = self.progress.upto(step, 1024).size * TICK
        if self.count < limits["evaluations"] or records < limits["records"]:
            return Verdict(KEEP)
        long = self.count >= 2 * limits["evaluations"]
        still = self.progress.gained(step, 25) <= limits["gained_long" if long else "gained"]
        if not still or self.progress.falling(step) or self.context.competes(self.scope):
            return Verdict(KEEP)
        return Verdict(2, self.begun, self._say(step))

    def _say(self, step: int) -> Said:
        gained = short(max(0.0, 100 * self.progress.gained(step, 25)))
        share = 100 * (self.high - self.low) / max(abs(self.low), abs(self.high))
        return Said(
            title=f"Validation loss the same in {self.count - 1} evaluations: {short(self.high)}",
            message=(
                f"All evaluations after the first, {self.count - 1} up to step {step}, lie between "
                f"{number(self.low)} and {number(self.high)}, and the training loss is {gained} % "
                "below its start and falls no more: nothing was learnt that holds."
            ),
            evidence=(
                Evidence(
                    label="Range of the validation loss",
                    value=f"{number(share)} %",
                    limit=f"{number(100 * self.limits['range'])} %",
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
