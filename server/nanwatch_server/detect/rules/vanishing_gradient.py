"""Rule 10: the gradient fades on its way to the first layers and nothing is learnt.

Needs both halves: a converged network has small norms too, and many that learn well have first
layers with far smaller gradients than the last.
"""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class VanishingGradient(LayerRule):
    """Median norms of the first layers against those of the last, over 64 records."""

    name = "vanishing_gradient"
    kind = "grad_norm_layer"
    keep = 64
    every = 8
    calm = "Gradients reach the first layers again"
    OWN = ("since",)

    def begin(self) -> None:
        self.since = -1
        """Step at which the gradient first had faded."""

    def judge(self) -> Verdict:
        if len(self.names) < 2 or self.ring.count < 32:
            return QUIET
        # means of the first layers are cheap and enough to say no
        quarter = max(1, len(self.names) // 4)
        newest = self.last(8)[:quarter].mean(axis=1)
        if (newest > 10 * self.limits["first"]).any():
            self.since = -1
            return QUIET
        if not self._faded(self.last(8)):
            self.since = -1
            return QUIET
        faded = self._faded(self.last(64))
        if not faded:
            return QUIET
        if self.since < 0:
            self.since = int(self.trail.window(64)[0, 0])
        if self.ring.count < self.limits["records"]:
            return QUIET
        first, last = faded
        gained = self.progress.gained(self.step, 16)
        gone = first <= self.limits["gone"] * last and not self.progress.falling(self.step)
        excuse = self.limits["gained_gone" if gone else "gained"]
        if math.isnan(gained) or gained > excuse:
            return Verdict(KEEP)
        return Verdict(2, self.since, self._say(first, last, excuse))

    def _faded(self, norms: np.ndarray) -> tuple[float, float] | None:
        """(norm of the first layers, of the last) where the gradient fades, else None."""
        limits = self.limits
        middle = np.median(norms, axis=1)
        middle = middle[np.isfinite(middle)]  # layers that were always measured
        if len(middle) < 2:
            return None
        part = max(1, len(middle) // 4)
        first, last = float(np.max(middle[:part])), float(np.max(middle[-part:]))
        if not last > 0 or first > limits["first"] or first > limits["share"] * last:
            return None
        if len(middle) < 3 and first > limits["gone"] * last:
            return None  # of two layers the first may well need less
        return first, last

    def _say(self, first: float, last: float, excuse: float) -> Said:
        layer = self.names[0]
        return Said(
            title=f"Gradient fades: {short(first)} in the first layers, {short(last)} in the last",
            message=(
                f"The gradient norm is {number(first)} in the first quarter of the layers and "
                f"{number(last)} in the last, and the loss has not fallen by more than "
                f"{number(100 * excuse)} % by step {self.step}: the first layers "
                "do not learn."
            ),
            evidence=(
                Evidence(
                    label="First over last",
                    value=number(first / last),
                    limit=number(self.limits["share"]),
                    kind=self.kind,
                    scope=self.scope,
                    layer=layer,
                ),
                Evidence(
                    label="First layers",
                    value=number(first),
                    limit=number(self.limits["first"]),
                    kind=self.kind,
                    scope=self.scope,
                    layer=layer,
                ),
            ),
            kind=self.kind,
            layer=layer,
        )
