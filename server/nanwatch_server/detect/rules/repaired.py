"""Training on repaired numbers: a guard (`nanwatch.guards`) changes values again and again."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, LayerRule, Verdict
from nanwatch_server.domain.facts import short
from nanwatch_server.domain.models import Evidence


class Repaired(LayerRule):
    """Share of the last reports in which a guard changed something."""

    name = "repaired"
    kind = "repaired"
    keep = 64
    calm = "No numbers repaired any more"

    def judge(self) -> Verdict:
        limits = self.limits
        window = np.nan_to_num(self.last(64))
        hits = np.max(window, axis=0, initial=0.0) > 0
        if not hits[-1]:
            return QUIET
        count, total = int(hits.sum()), float(window.sum())
        row = int(np.argmax(window.sum(axis=1)))
        guard = self.names[row]
        said = Said(
            title=f"Training on repaired numbers: {guard[-40:]} changed {short(total)} values",
            message=(
                f"{guard} changed values in {count} of the last {len(hits)} reports, "
                f"{short(total)} in all, up to step {self.step}. What is learnt from them is not "
                "what the data say."
            ),
            evidence=(
                Evidence(
                    label="Repaired", value=short(total), kind=self.kind, scope=self.scope,
                    layer=guard,
                ),
            ),
            kind=self.kind,
            layer=guard,
        )  # fmt: skip
        onset = int(self.trail.window(64)[0, int(np.argmax(hits))])
        return Verdict(2 if count >= limits["reports"] else 1, onset, said)
