"""RL pack: twin critics that disagree. A mark: the smaller of the two is what is learnt from, so
one of them may run away for long before the loss shows it."""

from __future__ import annotations

import re

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import TICK, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

RECENT = 32
_TWIN = re.compile(r"(.*(?:critic|qf|q|q_net|qnet|value))_?[0-9]+", re.IGNORECASE)


class TwinGap(TickRule):
    """Difference of two critics' mean values, as a share of the smaller of the two."""

    name = "twin_gap"
    reads = ("q_mean",)
    keep = RECENT
    needs = 64
    calm = "Twin critics agree again"

    @classmethod
    def wants(cls, block: Block) -> bool:
        """True for a scope that may have a twin: `critic1`, `qf2`."""
        return super().wants(block) and _family(block.scope) != block.scope

    @classmethod
    def missing(cls, seen: set[str]) -> str:
        """Why it could not run."""
        return super().missing(seen) or "no scope with a number: no twin"

    def judge(self) -> Verdict:
        own = middle(self.last(RECENT))
        gap, other, scope = 0.0, 0.0, ""
        for name, values in self.context.values.items():
            # of two one is enough, and what comes first is known whatever came in one batch
            if name >= self.scope or _family(name) != _family(self.scope):
                continue
            recent = values.upto(self.step, RECENT // TICK)
            if len(recent) == RECENT // TICK and abs(own - middle(recent)) > gap:
                other, scope = middle(recent), name
                gap = abs(own - other)
        size = max(min(abs(own), abs(other)), self.limits["floor"])
        if gap <= self.limits["share"] * size:
            return QUIET
        return Verdict(1, int(self.steps(RECENT)[0]), self._say(own, other, scope))

    def _say(self, own: float, other: float, scope: str) -> Said:
        return Said(
            title=f"Twin critics disagree: {short(own)} and {short(other)}",
            message=(
                f"Mean values of {self.scope} and {scope} are {number(own)} and {number(other)} "
                f"(medians of {RECENT} records) at step {self.step}. They see the same states: one "
                "of them is far off."
            ),
            evidence=(
                Evidence(
                    label=f"Mean value of {scope}",
                    value=number(other),
                    limit=number(own),
                    kind="q_mean",
                    scope=scope,
                ),
            ),
            kind="q_mean",
        )


def _family(scope: str) -> str:
    """The name without the number of a twin; the scope itself if it is none."""
    found = _TWIN.fullmatch(scope)
    return found[1] if found else scope
