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
    OWN = ("begun", "lowest", "highest")

    def begin(self) -> None:
        self.begun = -1
        """Step of the first record."""
        self.guesses = False
        """The loss stands where guessing among the classes puts it."""
        self.lowest = math.inf
        """Lowest median of 64 so far."""
        self.highest = -math.inf
        """Highest of them."""

    def judge(self) -> Verdict:
        limits = self.limits
        if self.begun < 0:
            self.begun = int(self.steps(64)[0])
        level = middle(self.last(64))
        self.lowest, self.highest = min(self.lowest, level), max(self.highest, level)
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
        if self.progress.rose_by_chance(self.step, 25):
            gained = 0.0
        falling = self.progress.falling(self.step)
        if falling and gained < 0:
            return self._above(level, patience, falling)
        if math.isnan(gained) or falling or (gained > limits["gained"] and not guesses):
            return QUIET
        if gained < -limits["gained"]:
            return self._above(level, patience, falling)
        # where the noise would hide what was learnt, its absence says nothing
        sharp = guesses or self.progress.blur(self.step, 25) <= limits["blur"]
        patient = self.count >= patience
        return Verdict(2 if patient and sharp else 1, self.begun, self._say(level))

    def _above(self, level: float, patience: float, falling: bool) -> Verdict:
        """It rose, of which other rules speak; unless it rose far and was never below where it
        began, whether it comes down again or not. From less far, tasks may grow harder."""
        limits, first = self.limits, self.progress.first
        early = self.count < min(patience, limits["patience_above"])
        far = self.highest >= limits["peak"] * first and level >= limits["over_first"] * first > 0
        if early or not far or self.lowest < first or self.context.learns_policy():
            return QUIET if falling else Verdict(KEEP)
        return Verdict(2, self.begun, self._say_above(level))

    def _say(self, level: float) -> Said:
        first, chance = self.progress.first, self.context.guessing()
        title = f"Loss has not moved from {number(first)} in {self.count} records"
        if self.guesses:
            title = f"Loss no better than guessing ({number(chance)}) in {self.count} records"
        return self._said(
            title,
            f"it began at {number(first)}. {self._why()}, so nothing was learnt.",
            level,
            first,
        )

    def _say_above(self, level: float) -> Said:
        first = self.progress.first
        return self._said(
            f"Loss has been above its start of {number(first)} for {self.count} records",
            f"it began at {number(first)}, rose to {number(self.highest)} and was never below "
            "where it began.",
            level,
            self.limits["over_first"] * first,
        )

    def _said(self, title: str, since: str, level: float, limit: float) -> Said:
        return Said(
            title=title,
            message=f"Median of the last 64 losses is {number(level)} at step {self.step}; {since}",
            evidence=(
                Evidence(
                    label="Loss, median of 64",
                    value=number(level),
                    limit=number(limit),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )

    def _why(self) -> str:
        chance = self.context.guessing()
        if self.guesses:
            return (
                f"Guessing among the classes gives {number(chance)}, and it was never much better"
            )
        return "The difference is within the noise"
