"""Updates that something takes back: weights that stand, to the last bit, where they stood before,
though steps of a visible size were taken. A grid that they are rounded to, a copy that is written
over them, a state that is loaded each time."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import short
from nanwatch_server.domain.models import Evidence, Finding

RATIOS = "update_ratio_layer"


class Undone(LayerRule):
    """Norms of all layers at once, each against those of earlier records."""

    name = "undone"
    kind = "param_norm_layer"
    keep = 256
    calm = "Weights move on"
    OWN = ("ratio", "returns", "since")

    def begin(self) -> None:
        self.ratio = 0.0
        """Newest size of the updates, of the weights (median of the layers)."""
        self.returns = 0
        """Records that stood where an earlier one stood."""
        self.since = -1
        """Step of the earliest of those they came back to."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        if RATIOS in block.layers:
            newest = block.layers[RATIOS][1][:, -1]
            newest = newest[np.isfinite(newest)]
            self.ratio = float(np.median(newest)) if newest.size else self.ratio
        return super().update(block)

    def judge(self) -> Verdict:
        limits = self.limits
        norms, steps = self.last(self.keep), self.trail.window(self.keep)[0]
        now = norms[:, -1:]
        measured = np.isfinite(now[:, 0])
        if np.count_nonzero(measured) < limits["layers"] or self.ratio < limits["ratio"]:
            return QUIET  # steps so small that a norm may stand still, or one of many weights
        row = int(np.argmax(measured))
        likely = np.flatnonzero((norms[row] == now[row]) & (steps <= self.step - limits["steps"]))
        same = (norms[:, likely][measured] == now[measured]).all(axis=0)
        if not same.any():
            return Verdict(KEEP) if self.returns >= limits["returns"] else QUIET
        self.returns += 1
        back = int(steps[likely[int(np.argmax(same))]])
        self.since = back if self.since < 0 else min(self.since, back)
        if self.returns < limits["returns"]:
            return QUIET
        learns = self.progress.gained(self.step) > limits["gained"]
        if self.context.learns_policy():
            learns = bool(self.context.pays(self.step))
        return Verdict(1 if learns else 2, self.since, self._say(back))

    def _say(self, back: int) -> Said:
        return Said(
            title=f"Updates are undone: weights of step {self.step} are those of step {back}",
            message=(
                f"The norms of all measured layers at step {self.step} are to the last bit what "
                f"they were at step {back}, for the {self.returns}. time, though each update moves "
                f"the weights by {short(100 * self.ratio)} %. Something writes old weights back."
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
