"""Rule 12: the loss has not moved from where it began. Alone it is a mark on the time axis; with a
reason one can see (no gradient at the first layers, dead units, tiny updates) it is an alarm."""

from __future__ import annotations

import math

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence


class Plateau(TickRule):
    """Share of the first loss that is gone, against the noise of the loss."""

    name = "plateau"
    reads = ("loss",)
    keep = 64
    needs = 64
    every = 32
    calm = "Loss falls"
    OWN = ("begun",)

    def begin(self) -> None:
        self.begun = -1
        """Step of the first record."""

    def judge(self) -> Verdict:
        limits = self.limits
        if self.begun < 0:
            self.begun = int(self.steps(64)[0])
        planned = limits["share"] * self.context.planned()
        patience = min(limits["patience"], max(limits["least"], planned))
        if self.context.competes(self.scope) or self.count < min(limits["records"], patience):
            return QUIET
        gained = self.progress.gained(self.step, 25)
        chance = self.context.guessing()
        guesses = abs(middle(self.last(64)) - chance) <= limits["gained"] * chance
        falling = self.progress.falling(self.step)
        if math.isnan(gained) or falling or (gained > limits["gained"] and not guesses):
            return QUIET
        if gained < -limits["gained"]:
            return Verdict(KEEP)  # it rose: other rules speak of that
        level = middle(self.last(64))
        # where the noise would hide what was learnt, its absence says nothing
        sharp = self.progress.blur(self.step, 25) <= limits["blur"]
        patient = self.count >= patience
        return Verdict(2 if patient and sharp else 1, self.begun, self._say(level))

    def _say(self, level: float) -> Said:
        first = self.progress.first
        return Said(
            title=f"Loss has not moved from {number(first)} in {self.count} records",
            message=(
                f"Median of the last 64 losses is {number(level)} at step {self.step}; it began at "
                f"{number(first)}. {self._why(level)}, so nothing was learnt."
            ),
            evidence=(
                Evidence(
                    label="Loss, median of 64",
                    value=number(level),
                    limit=number(first),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )

    def _why(self, level: float) -> str:
        chance = self.context.guessing()
        if abs(level - chance) <= self.limits["gained"] * chance:
            return f"Guessing among the classes gives {number(chance)}"
        return "The difference is within the noise"
