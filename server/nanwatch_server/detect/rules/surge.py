"""Loss and gradient norm leap together again and again: steps that overshoot, before any of them is
fatal. A single leap is a spike and a batch may be its reason; a cluster of them is the weights'."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP, unknown
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import Context, Rates, Said
from nanwatch_server.detect.robust import Ring, cells, deviation, log_or_nan, middle
from nanwatch_server.detect.tick import SpeakingRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

PAST = 64
"""Records that set what is usual, as of the last tick."""
OVER = 8
"""Records within which leaps are counted."""


class Surge(SpeakingRule):
    """Records far above the usual spread of both series, counted over the last eight."""

    name = "surge"
    kind = "loss"
    reads = ("loss", "grad_norm")
    calm = "Loss and gradient calm again"
    STATE = ("alarm", "past", "hits", "usual", "limits_now", "first")

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.restart()

    def restart(self) -> None:
        self.past = Ring(2, PAST)
        """Logarithms of loss and norm."""
        self.hits = Ring(1, OVER, np.int64)
        """Steps of the records, negative where both leapt."""
        self.usual: F64 = np.full(2, np.nan)
        self.limits_now: F64 = np.full(2, np.nan)
        """Logarithms above which a record leaps."""
        self.first = math.nan
        """Logarithm of the loss of the untrained model."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        rows = np.stack([log_or_nan(block.scalars["loss"]), log_or_nan(block.scalars["grad_norm"])])
        known = np.flatnonzero(np.isfinite(rows).all(axis=0))
        severities = unknown(rows.sum(axis=0))
        verdicts: dict[int, Verdict] = {}
        for start, stop, tick in cells(self.past.count, len(known)):
            part = known[start:stop]
            self._look(block, rows[:, part], part, severities, verdicts)
            self.past.push(rows[:, part])
            if tick and self.past.count >= self.limits["warmup"]:
                self._settle()
        return self.speak(block, severities, verdicts)

    def _settle(self) -> None:
        """What is usual, from the records kept."""
        for row, times in enumerate((self.limits["loss"], self.limits["norm"])):
            window = self.past.window(PAST)[row]
            level = middle(window)
            spread = self.limits["sigma"] * deviation(window, level)
            self.usual[row] = level
            self.limits_now[row] = level + max(math.log(times), spread)
        if math.isnan(self.first):
            self.first = float(self.past.window(PAST)[0].max())

    def _look(
        self,
        block: Block,
        logs: F64,
        part: I64,
        severities: np.ndarray,
        verdicts: dict[int, Verdict],
    ) -> None:
        leaps = (logs >= self.limits_now[:, None]).all(axis=0)
        leaps &= logs[0] >= self.first + math.log(self.limits["over_first"])
        hits = self.hits
        if not leaps.any() and not (hits.window(OVER) < 0).any():
            hits.push(block.steps[None, part])
            return
        for column, at in enumerate(part.tolist()):
            step = int(block.steps[at])
            hits.push(np.array([[-step - 1 if leaps[column] else step]]))
            hit = hits.window(OVER)[0]
            hit = hit[hit < 0]
            if not leaps[column]:
                severities[at] = KEEP if hit.size else 0
                continue
            climbs = self.context.rates.setdefault(self.scope, Rates()).climbs(block, at)
            enough = self.limits["records_climbing" if climbs else "records"]
            if len(hit) < enough:
                severities[at] = KEEP
                continue
            severity = 1 if self.context.competes(self.scope) else 2
            severities[at] = severity
            said = self._say(len(hit), logs[:, column], step)
            verdicts[at] = Verdict(severity, -int(hit[0]) - 1, said)

    def _say(self, leaps: int, logs: F64, step: int) -> Said:
        loss, norm = np.exp(np.minimum(logs, 700.0)).tolist()
        usual_loss, usual_norm = np.exp(self.usual).tolist()
        return Said(
            title=f"Loss and gradient leap together: {leaps} of the last {OVER} records",
            message=(
                f"At step {step} the loss is {number(loss)} (usually {number(usual_loss)}) and the "
                f"gradient norm {number(norm)} (usually {number(usual_norm)}). A bad batch leaps "
                "once; so many leaps come from steps that overshoot."
            ),
            evidence=(
                Evidence(
                    label="Loss",
                    value=number(loss),
                    limit=number(math.exp(self.limits_now[0])),
                    kind="loss",
                    scope=self.scope,
                ),
                Evidence(
                    label="Gradient norm",
                    value=f"{short(norm / usual_norm)}x",
                    limit=f"{short(math.exp(self.limits_now[1]) / usual_norm)}x",
                    kind="grad_norm",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
