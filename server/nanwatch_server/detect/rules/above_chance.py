"""A cross-entropy far above what guessing among the classes costs, from the first record on: the
model is sure of the wrong classes, and does not even get rid of that."""

from __future__ import annotations

import math

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

RECENT = 32


class AboveChance(TickRule):
    """Lowest level of the loss so far against the logarithm of the number of classes."""

    name = "above_chance"
    reads = ("loss",)
    keep = RECENT
    needs = RECENT
    every = 32
    calm = "Loss no longer far above the cost of guessing"
    OWN = ("lowest", "begun")

    def __init__(self, context: Context, scope: str) -> None:
        self.lowest = math.inf
        """Lowest median of 32 of the whole run: a later task may well begin above."""
        self.begun = -1
        super().__init__(context, scope)

    def judge(self) -> Verdict:
        limits = self.limits
        chance = self.context.guessing()
        self.lowest = min(self.lowest, middle(self.last(RECENT)))
        self.begun = int(self.steps(RECENT)[0]) if self.begun < 0 else self.begun
        # `not >` also where the number of classes is unknown
        if not self.lowest > limits["times"] * chance:
            return QUIET
        if self.context.guessed_otherwise(self.progress.first):
            return QUIET
        planned = self.context.planned()
        part = limits["share"] * planned if math.isfinite(planned) else 0.0
        early = self.count < limits["records"] or self.step < part
        if early or not self.context.alone(self.scope, self.step) or self._arrives(planned, chance):
            return Verdict(KEEP)
        return Verdict(2, self.begun, self._say(chance))

    def _arrives(self, planned: float, chance: float) -> bool:
        """True if the loss falls so fast that it will be there by the end, or in as long again."""
        first, taken = self.progress.first, self.step - self.begun + 1
        left = planned - self.begun if math.isfinite(planned) else 2.0 * taken
        reaches = first - (first - self.lowest) * left / taken
        return self.progress.falling(self.step) and reaches <= self.limits["times"] * chance

    def _say(self, chance: float) -> Said:
        evidence = [
            Evidence(
                label="Lowest loss, median of 32",
                value=number(self.lowest),
                limit=number(self.limits["times"] * chance),
                kind="loss",
                scope=self.scope,
            )
        ]
        if not self.progress.falling(self.step):
            gained = number(100 * self.progress.gained(self.step, 16))
            evidence.append(
                Evidence(
                    label=labels.LOSS_STANDS,
                    value=f"{gained} %, and falls no more",
                    kind="loss",
                    scope=self.scope,
                )
            )
        return Said(
            title=f"Loss of {short(self.lowest)} is {short(self.lowest / chance)}x the cost of "
            "guessing",
            message=(
                f"Guessing among the classes costs {number(chance)}; from step {self.begun} to "
                f"step {self.step} the loss (median of {RECENT}) was never below "
                f"{number(self.lowest)}: the model is sure of wrong answers. Weights that begin "
                "too large, labels that do not match, or weights that cannot move are the usual "
                "reasons."
            ),
            evidence=tuple(evidence),
            kind="loss",
        )
