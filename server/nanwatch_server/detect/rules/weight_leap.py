"""Weights that are somewhere else at once: one or a few updates moved them further than all before,
or they are orders of magnitude larger than they began, however slowly. Says so without a look at
the loss, which may come back by luck or tell nothing in a game of two."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.block import F64, I64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import Ring
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

PAST = 24
"""Earlier changes that a leap is compared with."""
GAPS = 4
"""... of which the newest tell how often weights are measured."""


class WeightLeap(LayerRule):
    """Norm of the layers that were measured before as well: a layer that is unfrozen, or added,
    makes the total leap in good health."""

    name = "weight_leap"
    kind = "param_norm_layer"
    keep = 1
    calm = "Weights settled where they leapt to"
    OWN = ("norms", "begun", "when", "moves", "pace")

    def begin(self) -> None:
        self.norms: F64 = np.empty(0)
        """Newest norm of each layer."""
        self.begun: F64 = np.empty(0)
        """First norm of each layer, or what it came to while it rose ever slower within the first
        steps: weights may begin near 0."""
        self.pace = math.inf
        """|Change of the logarithm of the norm| a step, of the last record."""
        self.when: I64 = np.empty(0, np.int64)
        """Step of the newest norm of each layer."""
        self.moves = Ring(2, PAST)
        """(|change of the logarithm of the norm|, steps it took) from record to record."""

    def judge(self) -> Verdict:
        self._extend(len(self.names))
        now = self.last(1)[:, 0].copy()
        now[~(now > 0)] = np.nan  # nothing, or nothing yet: of zero there is no ratio
        both = np.isfinite(now) & np.isfinite(self.norms)
        before, since = self.norms.copy(), self.when.copy()
        measured = np.isfinite(now)
        self.norms[measured], self.when[measured] = now[measured], self.step
        np.copyto(self.begun, now, where=measured & np.isnan(self.begun))
        if not both.any():
            return QUIET
        old, new = _norm(before[both]), _norm(now[both])
        gap = self.step - int(since[both].max())
        move = math.log(new / old)
        usual = self._usual(gap)
        pace, self.pace = self.pace, abs(move) / max(1, gap)
        if self.step < self.limits["warmup"] and self.pace < self.limits["slower"] * pace:
            np.copyto(self.begun, np.fmax(self.begun, now), where=both)
        self.moves.push(np.array([[abs(move)], [float(gap)]]))
        row = int(np.argmax(np.where(both, now - before, -np.inf)))
        tiny = new < self.limits["tiny"]  # an intercept that finds its first value
        if not tiny and (limit := self._leaps(move, usual)):
            said = self._say_leap(row, old, new, gap, math.exp(usual), limit)
            return Verdict(2, int(since[both].max()), said)
        first = _norm(self.begun[both])
        if new >= max(self.limits["floor"], self.limits["grown"] * first):
            return Verdict(2, -1, self._say_grown(row, first, new))
        return QUIET

    def _leaps(self, move: float, usual: float) -> float:
        """The ratio that this change is beyond, 0 if none: far beyond what the weights did
        before, or huge, which is all that counts while little is known."""
        limits = self.limits
        if move >= math.log(limits["alone"]):
            # first steps from weights near 0 are no leap, each smaller than the one before
            return limits["alone"] if self.moves.count > 1 and move >= usual else 0.0
        if self.moves.count <= limits["records"] or self.step < limits["warmup"]:
            return 0.0
        clear = move >= math.log(limits["leap"]) and move >= limits["usual"] * usual
        far = move >= math.log(limits["far"]) and move >= limits["usual_far"] * usual
        return limits["leap"] if clear else limits["far"] if far else 0.0

    def _usual(self, gap: int) -> float:
        """Largest change of those before, more where this one took longer than they did."""
        moves, gaps = self.moves.window(PAST)
        if not moves.size:
            return 0.0
        return float(moves.max()) * max(1.0, gap / max(1.0, float(gaps[-GAPS:].max())))

    def _extend(self, layers: int) -> None:
        more = layers - len(self.norms)
        if more:
            self.norms = np.append(self.norms, np.full(more, np.nan))
            self.begun = np.append(self.begun, np.full(more, np.nan))
            self.when = np.append(self.when, np.zeros(more, np.int64))

    def _say_leap(
        self, row: int, old: float, new: float, gap: int, usual: float, limit: float
    ) -> Said:
        title = f"Weights leap from {short(old)} to {short(new)} within {gap} steps"
        message = (
            f"The norm of the weights went from {number(old)} to {number(new)} within {gap} steps "
            f"before step {self.step}, most in {self.names[row] or 'the only layer'}; the largest "
            f"change of that many steps before was {short(usual)}x. "
            "An update much larger than those before has thrown them somewhere else."
        )
        return self._said(row, title, message, labels.WEIGHTS_LEAPT, new, old * limit)

    def _say_grown(self, row: int, first: float, new: float) -> Said:
        title = f"Weights are {short(new / first)}x as large as they began: {short(new)}"
        message = (
            f"The norm of the weights is {number(new)} at step {self.step}; it began at "
            f"{number(first)}. Nothing bounds it: neither weight decay nor the loss."
        )
        limit = max(self.limits["floor"], self.limits["grown"] * first)
        return self._said(row, title, message, labels.WEIGHTS_GREW, new, limit)

    def _said(
        self, row: int, title: str, message: str, label: str, value: float, limit: float
    ) -> Said:
        layer = self.names[row]
        evidence = Evidence(
            label=label,
            value=number(value),
            limit=number(limit),
            kind=self.kind,
            scope=self.scope,
            layer=layer,
        )
        return Said(title, message, (evidence,), self.kind, layer)


def _norm(parts: F64) -> float:
    """Norm of what the parts are norms of."""
    largest = float(parts.max())  # squares of huge norms would overflow
    return largest * float(np.sqrt(np.square(parts / largest).sum()))
