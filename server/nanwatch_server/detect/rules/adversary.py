"""GANs: the discriminator has won, so the generator gets no gradient it could learn from, or loses
far more to it than at first."""

from __future__ import annotations

import math
import re

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.progress import Progress
from nanwatch_server.detect.robust import TICK, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

_DISCRIMINATOR = re.compile(r"discriminator|(^|[._])(disc|netd|d|adversary)([._]|$)")


BEATEN_OVER = 192
"""Records of one level: healthy generators lose for a while and come back."""

RECENT = 32
"""Records that tell whether the discriminator loses again."""


class Adversary(TickRule):
    """Loss of the discriminator near 0 while the generator's has risen and rises no less; or, of
    any two that are trained in turn, one loss far below its start and the other far above."""

    name = "adversary"
    reads = ("loss",)
    keep = BEATEN_OVER
    needs = BEATEN_OVER
    calm = "Neither side wins any more"
    OWN = ("begun",)

    def begin(self) -> None:
        self.begun = math.nan
        """Median of the first four losses: it may win within the 32 that others call the first."""

    @classmethod
    def wants(cls, block: Block) -> bool:
        """True for a scope: what is trained alone has no adversary."""
        return super().wants(block) and bool(block.scope)

    @classmethod
    def missing(cls, seen: set[str]) -> str:
        """Why it could not run."""
        return super().missing(seen) or "no scope of its own: no adversary"

    def judge(self) -> Verdict:
        limits = self.limits
        own = self.progress
        level = middle(self.last(128))
        if math.isnan(self.begun):
            self.begun = middle(self.last(BEATEN_OVER)[:4])
        first = max(own.first, self.begun)
        if not first > 0 or not level >= 0:
            return QUIET
        named = _DISCRIMINATOR.search(self.scope.lower())
        if not named or not level <= limits["won"] * first:
            return self._beaten(first)
        others = {s: p for s, p in self.context.progress.items() if s != self.scope}
        rises = {s: self._risen(p) for s, p in others.items() if p.first > 0}
        worst = max(rises, key=lambda scope: rises[scope], default=None)
        risen = worst is not None and rises[worst] >= limits["risen"]
        if middle(self.last(RECENT)) > limits["won"] * first:
            return Verdict(KEEP)  # many win early and lose again
        # a generator's loss that saturates goes to 0 with it, and tells nothing
        if not risen and level > limits["perfect"] * first:
            return Verdict(KEEP)
        worst = worst if worst is not None else next(iter(others), self.scope)
        generator = float(middle(self.context.progress[worst].upto(self.step, 8)))
        said = Said(
            title=f"Discriminator has won: its loss is {number(level)}",
            message=(
                f"Median loss of {self.scope} is {number(level)} over the last 128 records at step "
                f"{self.step} (it began at {number(first)}), that of "
                f"{worst or 'the generator'} {number(generator)}"
                f"{' and higher than at its start' if risen else ''}: "
                "nothing fools the discriminator, so it teaches nothing."
            ),
            evidence=(
                Evidence(
                    label="Discriminator's loss",
                    value=number(level),
                    limit=number(limits["won"] * first),
                    kind="loss",
                    scope=self.scope,
                ),
                Evidence(
                    label="Generator's loss", value=number(generator), kind="loss", scope=worst
                ),
            ),
            kind="loss",
        )
        return Verdict(2, int(self.steps(128)[0]), said)

    def _beaten(self, first: float) -> Verdict:
        """Of two that are trained in turn this one wins, and the other loses far more than it did
        at first, and than this one ever did."""
        limits = self.limits
        # a loss that the script logs belongs to no side
        others = [scope for scope in self.context.progress if scope not in (self.scope, "")]
        if len(others) != 1 or self.count < BEATEN_OVER or self.context.learns_policy():
            return QUIET
        if self.last(BEATEN_OVER).min() < 0:
            return QUIET  # a score rather than an error (hinge, Wasserstein): near 0 is no victory
        other = self.context.progress[others[0]]
        medians = other.upto(self.step, 1024)
        recent = medians[-BEATEN_OVER // TICK :]
        level = middle(self.last(BEATEN_OVER))
        in_turn = other.seen_at(self.step) >= int(self.steps(BEATEN_OVER)[0])
        if len(medians) < BEATEN_OVER // TICK or not in_turn:
            return QUIET
        # within the first 32 records it may have lost already
        begun = min(other.first, float(medians[0])) if len(medians) < 1024 else other.first
        if not begun > 0:
            return QUIET
        lowest = float(recent.min())
        if level > limits["wins"] * first or lowest < limits["loses"] * begun or lowest < first:
            return QUIET
        now = middle(recent[-8:])
        said = Said(
            title=f"{self.scope} beats {others[0]}: {short(level)} against {short(now)}",
            message=(
                f"Over {BEATEN_OVER} records up to step {self.step} the loss of {self.scope} is "
                f"{number(level)} (it began at {number(first)}), that of {others[0]} "
                f"{number(now)} at the end, {short(now / begun)}x what it began with: one side has "
                "won, and what it teaches the other is of no use."
            ),
            evidence=(
                Evidence(
                    label=labels.WINNER,
                    value=number(level),
                    limit=number(limits["wins"] * first),
                    kind="loss",
                    scope=self.scope,
                ),
                Evidence(
                    label="Loss of the side that loses",
                    value=number(now),
                    limit=number(limits["loses"] * begun),
                    kind="loss",
                    scope=others[0],
                ),
            ),
            kind="loss",
        )
        return Verdict(2, int(self.steps(BEATEN_OVER)[0]), said)

    def _risen(self, generator: Progress) -> float:
        """Share of its present loss that it did not have at first; 0 where it fell."""
        medians = generator.upto(self.step, 1024)
        if len(medians) < 8:
            return 0.0
        now, first = middle(medians[-8:]), min(generator.first, float(medians[0]))
        return max(0.0, 1.0 - first / now) if now > 0 else 0.0
