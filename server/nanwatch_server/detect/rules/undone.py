"""Updates that something takes back: weights that stand, to the last bit, where they stood before,
though steps of a visible size were taken. A grid that they are rounded to, a copy that is written
over them, a state that is loaded each time."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import F64, Block
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import hold_last
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import short
from nanwatch_server.domain.models import Evidence, Finding

RATIOS = "update_ratio_layer"
DISTINCT = 0.5
"""Share of the records of a layer that must differ, ..."""
STANDS = 0.9
"""... unless so many are one and the same."""


class Undone(LayerRule):
    """Norms of all layers at once, each against those of earlier records."""

    name = "undone"
    kind = "param_norm_layer"
    keep = 256
    calm = "Weights move on"
    OWN = ("ratio", "returns", "since", "newest")

    def begin(self) -> None:
        self.ratio = 0.0
        """Newest size of the updates, of the weights (median of the layers)."""
        self.returns = 0
        """Records that stood where an earlier one stood."""
        self.since = -1
        """Step of the earliest of those they came back to."""
        self.newest = -1
        """Step of the newest of those records."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts; each is judged with the updates of its own time."""
        self._before, self._ratios = self.ring.count, np.full(len(block), self.ratio)
        if RATIOS in block.layers:
            sizes = block.layers[RATIOS][1]
            known = np.isfinite(sizes).any(axis=0)
            middles = np.full((1, len(block)), np.nan)
            middles[0, known] = np.nanmedian(sizes[:, known], axis=0)
            self._ratios = hold_last(middles, np.array([self.ratio]))[0]
        found = super().update(block)
        self.ratio = float(self._ratios[-1])
        return found

    def judge(self) -> Verdict:
        limits = self.limits
        norms, steps = self.last(self.keep), self.trail.window(self.keep)[0]
        now = norms[:, -1:]
        measured = np.isfinite(now[:, 0])
        ratio = float(self._ratios[self.ring.count - self._before - 1])
        large = ratio >= limits["ratio"]
        if np.count_nonzero(measured) < limits["layers"] or not large:
            return QUIET  # steps so small that a norm may stand still, or one of many weights
        row = int(np.argmax(measured))
        likely = np.flatnonzero((norms[row] == now[row]) & (steps <= self.step - limits["steps"]))
        same = (norms[:, likely][measured] == now[measured]).all(axis=0)
        if not same.any():
            return self._moves(norms[measured])
        if not self._told_apart(norms[measured]):
            return QUIET
        self.returns, self.newest = self.returns + 1, self.step
        back = int(steps[likely[int(np.argmax(same))]])
        self.since = back if self.since < 0 else min(self.since, back)
        if self.returns < limits["returns"]:
            return QUIET
        learns = self.progress.gained(self.step) > limits["gained"]
        if self.context.learns_policy():
            learns = bool(self.context.pays(self.step))
        return Verdict(1 if learns else 2, self.since, self._say(back, ratio))

    def _moves(self, norms: F64) -> Verdict:
        """No return: those before count for as long as the records that are kept."""
        if self.newest < int(self.trail.window(self.keep)[0][0]):
            self.returns, self.since = 0, -1
        return Verdict(KEEP) if self.returns >= self.limits["returns"] else QUIET

    def _told_apart(self, norms: F64) -> bool:
        """False for norms in so few digits that weights which move may show the same numbers: then
        there are few of them, and most records repeat one. Weights that stand for good show one
        number as well, but as large as steps are they would not be rounded to it."""
        numbers = [len(np.unique(row[np.isfinite(row)])) for row in norms]
        records = norms.shape[1]
        stands = bool((norms == norms[:, -1:]).all(axis=0)[1:].mean() > STANDS)
        return stands or min(numbers) > DISTINCT * records

    def _say(self, back: int, ratio: float) -> Said:
        return Said(
            title=f"Updates are undone: weights of step {self.step} are those of step {back}",
            message=(
                f"The norms of all measured layers at step {self.step} are to the last bit what "
                f"they were at step {back}, for the {self.returns}. time, though each update moves "
                f"the weights by {short(100 * ratio)} %. Something writes old weights back."
            ),
            evidence=(
                Evidence(
                    label=labels.WEIGHTS_CAME_BACK,
                    value=f"{self.returns} times",
                    limit=f"{self.limits['returns']} times",
                    kind=self.kind,
                    scope=self.scope,
                ),
            ),
            kind=self.kind,
        )
