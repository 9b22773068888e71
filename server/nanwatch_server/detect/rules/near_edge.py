"""An argument of a logarithm, a root, a quotient or an exponential in the loss that runs out of the
place where these are defined: the next batch may give log(0) or an infinity.

The loss itself falls as it should until then; only its gradient may grow.
"""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import F64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

FIRST = 4
"""Records whose median is what a training began with."""
NEWEST = 3
"""Records whose median is where it stands."""
COMPLEMENT = ":1-p"
UNBOUNDED = ":unbounded"
"""What the SDK calls operations whose argument nothing keeps within the domain."""
HALF_PRECISION = ":float16"
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
        """Median of the first records of each operation; NaN before there are so many."""
        self.seen: F64 = np.empty(0)
        """Records of each operation, as far as they are counted."""

    def judge(self) -> Verdict:
        more = len(self.names) - len(self.begun)
        if more:
            self.begun = np.append(self.begun, np.full(more, np.nan))
            self.seen = np.append(self.seen, np.zeros(more))
        now = self.last(1)[:, 0]
        told = np.isfinite(now)
        self.seen[told] += 1
        for row in np.flatnonzero(told).tolist():
            if self.seen[row] == FIRST:
                self.begun[row] = np.median(self._course(row)[1][-FIRST:])
            elif self.seen[row] > FIRST and (limit := self._limit(row, float(now[row]))):
                return Verdict(2, self._onset(row), self._say(row, float(now[row]), limit))
        # beyond the edge is not far from it again
        return QUIET if (now > 0).any() else Verdict(KEEP)

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
        return limit if begun >= limits["least"] and self._heads_for_it(row, limit) else 0.0

    def _heads_for_it(self, row: int, limit: float) -> bool:
        """True if the margin is low, and falls in a line that ends at 0 soon: clear of its scatter,
        and without slowing down, as what nears a bound from above does."""
        limits = self.limits
        steps, margins = self._course(row)
        if len(margins) < limits["records"] or np.median(margins[-NEWEST:]) > limit:
            return False
        half = len(margins) // 2
        whole, error = _slope(steps, margins)
        late, _ = _slope(steps[half:], margins[half:])
        if not (
            whole < 0 and -whole >= limits["clear"] * error and late <= limits["steady"] * whole
        ):
            return False
        return bool(-margins[-1] / late <= limits["ahead"] * (steps[-1] - steps[0]))

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
        operation = self.names[row].partition(":")[0]
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


def _slope(steps: F64, values: F64) -> tuple[float, float]:
    """Slope of the line of least squares, a step, and its standard error."""
    centred, above = steps - steps.mean(), values - values.mean()
    total = float(centred @ centred)
    if not total > 0:
        return 0.0, np.inf
    slope = float(centred @ above) / total
    rest = above - slope * centred
    return slope, float(np.sqrt(rest @ rest / max(1, len(rest) - 2) / total))
