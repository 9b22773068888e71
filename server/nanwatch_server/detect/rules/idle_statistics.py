"""Running statistics of BatchNorm that stand where they were made, mean 0 and variance 1, while
the weights are trained: the model is in evaluation mode, and nothing is normalised."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.models import Evidence

MADE_WITH = {"running_mean": 0.0, "running_var": 1.0}
"""What torch fills them with. One batch in training mode moves both by its tenth."""


class IdleStatistics(LayerRule):
    """All running means exactly 0 and all running variances exactly 1, report after report."""

    name = "idle_statistics"
    kind = "buffer_abs_max_layer"
    calm = "BatchNorm sees its batches"
    keep = 16
    every = 8

    def judge(self) -> Verdict:
        records = min(self.keep, self.limits["records"])
        if self.ring.count < records:
            return QUIET
        values = self.last(records)
        rows = {
            what: [row for row, name in enumerate(self.names) if name.endswith(what)]
            for what in MADE_WITH
        }
        if not all(rows.values()):
            return QUIET
        for what, made_with in MADE_WITH.items():
            mine = values[rows[what]]
            told = np.isfinite(mine)
            if not told.any() or (mine[told] != made_with).any():
                return QUIET
        begun = int(self.trail.window(records)[0, 0])
        layers = len(rows["running_var"])
        # a single one may stand in a branch that is not used
        return Verdict(2 if layers > 1 else 1, begun, self._say(layers, rows["running_var"][0]))

    def _say(self, count: int, row: int) -> Said:
        which = "the BatchNorm layer" if count == 1 else f"all {count} BatchNorm layers"
        layer = self.names[row]
        return Said(
            title="BatchNorm has seen no batch: its statistics are still 0 and 1",
            message=(
                f"Running mean and variance of {which} are exactly 0 and 1 at step {self.step}, as "
                "they were made, while the weights are trained: the model is in evaluation mode "
                "(`model.eval()` without a `model.train()` after it), so nothing is normalised; or "
                "it is not used."
            ),
            evidence=(
                Evidence(
                    label=labels.STATISTICS_IDLE,
                    value="0 and 1",
                    kind=self.kind,
                    scope=self.scope,
                    layer=layer,
                ),
            ),
            kind=self.kind,
            layer=layer,
        )
