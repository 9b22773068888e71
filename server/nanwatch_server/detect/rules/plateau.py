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
    OWN = ("begun", "lowest")

    def begin(self) -> None:
        self.begun = -1
        """Step of the first record."""
        self.guesses = False
        """The loss stands where guessing among the classes puts it."""
        self.lowest = math.inf
        """Lowest median of 64 so far."""

    def judge(self) -> Verdict:
        limits = self.limits
        if self.begun < 0:
            self.begun = int(self.steps(64)[0])
        level = middle(self.last(64))
        self.lowest = min(self.lowest, level)
        planned = limits["share"] * self.context.planned()
        chance = self.context.guessing()
        # it may have come from far above: a KL term, a start that was sure of wrong answers
        self.guesses = (
            self.lowest >= (1 - limits["below"]) * chance
            and level <= (1 + limits["above"]) * chance
        )
        guesses = self.guesses
        blind = guesses and math.isinf(planned)  # nobody said how long it may take
        most = limits["patience_guessing" if blind else "patience"]
        patience = min(most, max(limits["least"], planned))
        if self.context.competes(self.scope) or self.count < min(limits["records"], patience):
            return QUIET
        gained = self.progress.gained(self.step, 25)
        if self.progress.level_as_at_first(self.step, 25):
            gained = 0.0
        falling = self.progress.falling(self.step)
        if falling and gained < 0:
            return self._above(level, patience)
        if math.isnan(gained) or falling or (gained > limits["gained"] and not guesses):
            return QUIET
        if gained < -limits["gained"]:
            return self._above(level, patience)
        # where the noise would hide what was learnt, its absence says nothing
        sharp = guesses or self.progress.blur(self.step, 25) <= limits["blur"]
        patient = self.count >= patience
        return Verdict(2 if patient and sharp else 1, self.begun, self._say(level))

    def _above(self, level: float, patience: float) -> Verdict:
        """It rose, of which other rules speak; unless it was never below where it began."""
        limits, first = self.limits, self.progress.first
        patience = min(patience, limits["patience_above"])
        early = self.count < patience or self.context.learns_policy()
        if early or self.lowest < first or not level >= limits["over_first"] * first > 0:
            return Verdict(KEEP)
        return Verdict(2, self.begun, self._say(level))

    def _say(self, level: float) -> Said:
        first, chance = self.progress.first, self.context.guessing()
        title = f"Loss has not moved from {number(first)} in {self.count} records"
        if level > (1 + self.limits["above"]) * first:
            title = f"Loss has been above its start of {number(first)} for {self.count} records"
        if self.guesses:
            title = f"Loss no better than guessing ({number(chance)}) in {self.count} records"
        return Said(
            title=title,
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
        if self.guesses:
            return (
                f"Guessing among the classes gives {number(chance)}, and it was never much better"
            )
        if level > (1 + self.limits["above"]) * self.progress.first:
            return "It has never been lower than that"
        return "The difference is within the noise"
