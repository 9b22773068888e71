"""An argument of a logarithm, a root, a quotient or an exponential in the loss that runs out of the
place where these are defined: the next batch may give log(0) or an infinity.

The loss itself falls as it should until then; only its gradient may grow.
"""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.block import F64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

FIRST = 4
"""Records whose largest margin is what a training began with."""
FIT = 6
"""Records before a course is told."""
COMPLEMENT = ", 1 - p"
UNBOUNDED = ", unbounded"
"""What the SDK calls operations whose argument nothing keeps within the domain."""
HALF_PRECISION = ", float16"
COSINES = ("acos", "asin", "atanh")
"""Of what learning brings to 1 in good health: only rounding is too near."""


class NearEdge(LayerRule):
    """Least distance of each operation's arguments from the edge of its domain."""

    name = "near_edge"
    kind = "domain_margin"
    keep = 48
    calm = "Arguments are far from the edge again"
    OWN = ("begun", "seen")

    def begin(self) -> None:
        self.begun: F64 = np.empty(0)
        """Largest margin of the first records of each operation."""
        self.seen: F64 = np.empty(0)
        """Records of each operation, as far as they are counted."""

    def judge(self) -> Verdict:
        more = len(self.names) - len(self.begun)
        if more:
            self.begun = np.append(self.begun, np.full(more, np.nan))
            self.seen = np.append(self.seen, np.zeros(more))
        now = self.last(1)[:, 0]
        told = np.isfinite(now)
        early = told & (self.seen < FIRST)
        self.begun[early] = np.fmax(self.begun[early], now[early])
        self.seen[told & (self.seen < FIT)] += 1
        for row in np.flatnonzero(told & (self.seen >= FIT)).tolist():
            if limit := self._limit(row, float(now[row])):
                onset = self._onset(row)
                return Verdict(2, onset, self._say(row, float(now[row]), limit))
        return QUIET

    def _limit(self, row: int, now: float) -> float:
        """The margin that this one is too small for; 0 if it is large enough."""
        limits, name, begun = self.limits, self.names[row], float(self.begun[row])
        if not 0 < now < begun:
            return 0.0
        if name.startswith("exp"):
            limit = limits["exponent_half" if name.endswith(HALF_PRECISION) else "exponent"]
            return limit if now <= limit else 0.0
        if name.startswith(COSINES) or name.endswith(COMPLEMENT):
            limit = limits["rounding"]
            return limit if now <= limit and begun >= limits["least"] else 0.0
        if not name.endswith(UNBOUNDED):
            limit = min(limits["tiny"], limits["fell"] * begun)
            return limit if now <= limit else 0.0
        limit = limits["near"] * begun
        near = begun >= limits["least"] and now <= limit
        return limit if near and self._heads_for_it(row) else 0.0

    def _heads_for_it(self, row: int) -> bool:
        """True if the margin falls in a line that ends at 0 soon and does not slow down."""
        steps, margins = self._course(row)
        if len(margins) < FIT:
            return False
        half = len(margins) // 2
        whole, late = _slope(steps, margins), _slope(steps[half:], margins[half:])
        left = -margins[-1] / late if late < 0 else np.inf
        soon = left <= self.limits["ahead"] * (steps[-1] - steps[0])
        return bool(soon and late <= self.limits["steady"] * whole)

    def _course(self, row: int) -> tuple[F64, F64]:
        """Steps and margins of the last records of an operation."""
        margins = self.last(self.keep)[row]
        steps = self.trail.window(self.keep)[0].astype(float)
        told = np.isfinite(margins)
        return steps[told], margins[told]

    def _onset(self, row: int) -> int:
        """Since when it has been falling, as far as records are kept."""
        steps, margins = self._course(row)
        return int(steps[int(np.argmax(margins))])

    def _say(self, row: int, now: float, limit: float) -> Said:
        operation = self.names[row].partition(",")[0]
        begun = float(self.begun[row])
        if operation == "exp":
            title = f"exp() is within a factor of e^{short(now)} of overflow"
            why = "its largest argument has grown from batch to batch"
        else:
            title = f"Argument of {operation} near its edge: {short(now)}, at first {short(begun)}"
            why = (
                "nothing keeps it from crossing"
                if self.names[row].endswith(UNBOUNDED)
                else "rounded to 0 it gives an infinity, and NaN behind it"
            )
        message = (
            f"The arguments of {operation} in the loss came within {number(now)} of where it is "
            f"not defined or infinite at step {self.step}; they began {number(begun)} away, and "
            f"{why}."
        )
        evidence = Evidence(
            label=labels.MARGIN,
            value=number(now),
            limit=number(limit),
            kind=self.kind,
            scope=self.scope,
            layer=self.names[row],
        )
        return Said(title, message, (evidence,), self.kind, self.names[row])


def _slope(steps: F64, values: F64) -> float:
    """Least squares, a step."""
    centred = steps - steps.mean()
    total = float(centred @ centred)
    return float(centred @ values) / total if total > 0 else 0.0
