"""GANs: the discriminator has won, so the generator gets no gradient it could learn from."""

from __future__ import annotations

import math
import re

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.progress import Progress
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number
from nanwatch_server.domain.models import Evidence

_DISCRIMINATOR = re.compile(r"discriminator|(^|[._])(disc|netd|d|adversary)([._]|$)")


class Adversary(TickRule):
    """Loss of the discriminator near 0 while the generator's has risen and rises no less."""

    name = "adversary"
    reads = ("loss",)
    keep = 128
    needs = 128
    calm = "The discriminator can be fooled again"
    OWN = ("begun",)

    def begin(self) -> None:
        self.begun = math.nan
        """Median of the first four losses: it may win within the 32 that others call the first."""

    @classmethod
    def wants(cls, block: Block) -> bool:
        """True for a scope that is called like a discriminator."""
        return super().wants(block) and bool(_DISCRIMINATOR.search(block.scope.lower()))

    @classmethod
    def missing(cls, seen: set[str]) -> str:
        """Why it could not run."""
        return super().missing(seen) or "no scope called like a discriminator"

    def judge(self) -> Verdict:
        limits = self.limits
        own = self.progress
        level = middle(self.last(128))
        if math.isnan(self.begun):
            self.begun = middle(self.last(128)[:4])
        first = max(own.first, self.begun)
        if not first > 0 or not 0 <= level <= limits["won"] * first:
            return QUIET
        others = {s: p for s, p in self.context.progress.items() if s != self.scope}
        rises = {s: self._risen(p) for s, p in others.items() if p.first > 0}
        worst = max(rises, key=lambda scope: rises[scope], default=None)
        risen = worst is not None and rises[worst] >= limits["risen"]
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

    def _risen(self, generator: Progress) -> float:
        """Share of its present loss that it did not have at first; 0 where it fell."""
        medians = generator.upto(self.step, 1024)
        if len(medians) < 8:
            return 0.0
        now, first = middle(medians[-8:]), min(generator.first, float(medians[0]))
        return max(0.0, 1.0 - first / now) if now > 0 else 0.0
