"""Loss and gradient norm leap together again and again: steps that overshoot, before any of them is
fatal. A single leap is a spike and a batch may be its reason; a cluster of them is the weights'.
One far beyond everything before, with no clip to shorten its step, is told at once."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP, severities_of
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.robust import Ring, cells, deviation, log_or_nan, middle
from nanwatch_server.detect.tick import SpeakingRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

PAST = 64
"""Records that set what is usual, ..."""
SETTLE = 24
"""... worked out after so many."""
NEAR_OVER, FAR_OVER = 8, 24
"""Records within which leaps of an ordinary size, and very large ones, are counted."""
ALONE = 3
"""Mark of a leap beyond everything before."""
CLUSTER = "A bad batch leaps once; leaps that follow each other come from steps that overshoot."


class Surge(SpeakingRule):
    """Records far above the usual spread of both series, counted over the last ones."""

    name = "surge"
    kind = "loss"
    reads = ("loss", "grad_norm")
    calm = "Loss and gradient calm again"
    STATE = ("alarm", "past", "steps", "leaps", "usual", "near", "first", "first_norm",
             "signed", "high")  # fmt: skip

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.restart()

    def restart(self) -> None:
        self.past = Ring(2, PAST)
        """Logarithms of loss and norm."""
        self.steps = Ring(1, FAR_OVER, np.int64)
        self.leaps = Ring(1, FAR_OVER, np.int64)
        """0, 1 where both leapt, 2 where the norm leapt very far, 3 beyond everything before."""
        self.usual: F64 = np.full(2, np.nan)
        self.near: F64 = np.full(2, np.nan)
        """Logarithms above which both leap."""
        self.signed = False
        """A loss that may be below 0."""
        self.first = self.first_norm = math.nan
        """Largest logarithms of the untrained model."""
        self.high: F64 = np.full(2, -np.inf)
        """Largest logarithms of all."""

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts."""
        rows = log_or_nan(np.array((block.scalars["loss"], block.scalars["grad_norm"])))
        end = self._usable(block.scalars["loss"])
        known = np.flatnonzero(np.isfinite(rows[:, :end]).all(axis=0))
        levels: dict[int, int] = {}
        verdicts: dict[int, Verdict] = {}
        sums = rows.sum(axis=0)
        rows = rows if len(known) == len(block) else rows[:, known]
        for start, stop, settles in cells(self.past.count, len(known), SETTLE):
            part = rows[:, start:stop]
            self._look(block, part, known[start:stop], levels, verdicts)
            self.past.push(part)
            if settles and self.past.count >= self.limits["warmup"]:
                self._settle()
        if self.alarm.rests(len(block), levels.values()):
            return []  # nearly always
        severities = severities_of(sums, levels)
        severities[end:] = KEEP  # nobody looks any more
        return self.speak(block, severities, verdicts)

    def _usable(self, losses: F64) -> int:
        """Records up to the first loss below 0: of such losses there is no ratio."""
        below = np.flatnonzero((losses < 0) & np.isfinite(losses))
        end = 0 if self.signed else int(below[0]) if below.size else len(losses)
        self.signed |= bool(below.size)
        return end

    def _settle(self) -> None:
        """What is usual, from the records kept."""
        for row, times in enumerate((self.limits["loss"], self.limits["norm"])):
            window = self.past.window(PAST)[row]
            level = middle(window)
            spread = self.limits["sigma"] * deviation(window, level)
            self.usual[row] = level
            self.near[row] = level + max(math.log(times), spread)
        if math.isnan(self.first):
            self.first, self.first_norm = self.past.window(PAST).max(axis=1).tolist()

    def _sorted(self, logs: F64, clipped: bool) -> I64:
        """How far each record leaps: see `leaps`."""
        limits = self.limits
        top = logs.max(axis=1)
        least = float(self.near[1])
        if not clipped:
            least = min(least, float(self.usual[1] + np.log(limits["norm_alone"])))
        if not top[1] >= least:  # nearly always, and before there is one
            self.high = np.maximum(self.high, top)
            return np.zeros(logs.shape[1], np.int64)
        before = np.maximum.accumulate(np.column_stack([self.high, logs]), axis=1)
        self.high = before[:, -1].copy()
        near = (logs >= self.near[:, None]).all(axis=0)
        near &= logs[0] >= self.first + math.log(limits["over_first"])
        far = logs[1] >= max(self.usual[1] + math.log(limits["norm_far"]), self.near[1])
        far &= logs[0] >= self.usual[0] + math.log(limits["loss_far"])
        far &= logs[1] >= self.first_norm + math.log(limits["over_first_norm"])
        leaps = np.where(far, 2, near.astype(np.int64))
        if not clipped:  # a clip takes the length of such a step away
            least = np.maximum(
                self.usual + np.log([limits["loss_alone"], limits["norm_alone"]]),
                before[:, :-1].T + np.log([limits["loss_over_all"], limits["norm_over_all"]]),
            )
            leaps[(least <= logs.T).all(axis=1)] = ALONE
        return leaps

    def _look(
        self,
        block: Block,
        logs: F64,
        part: I64,
        levels: dict[int, int],
        verdicts: dict[int, Verdict],
    ) -> None:
        leaps = self._sorted(logs, "clip_threshold" in block.scalars)
        if not np.count_nonzero(leaps) and not np.count_nonzero(self.leaps.window(FAR_OVER)):
            self._push(block.steps[part], leaps)
            return
        for column, at in enumerate(part.tolist()):
            here = slice(column, column + 1)
            self._push(block.steps[part[here]], leaps[here])
            if not leaps[column]:
                levels[at] = KEEP if self.leaps.window(FAR_OVER).any() else 0
                continue
            verdicts[at] = self._verdict(block, at, logs[:, column])
            levels[at] = verdicts[at].severity

    def _push(self, steps: I64, leaps: I64) -> None:
        self.steps.push(steps[None, :])
        self.leaps.push(leaps[None, :])

    def _verdict(self, block: Block, at: int, logs: F64) -> Verdict:
        """On a record that leaps, with those before it."""
        leaps, steps = self.leaps.window(FAR_OVER)[0], self.steps.window(FAR_OVER)[0]
        if leaps[-1] == ALONE:
            return Verdict(2, int(steps[-1]), self._say_alone(logs, int(steps[-1])))
        far = np.flatnonzero(leaps >= 2)
        near = np.flatnonzero(leaps[-NEAR_OVER:]) + max(0, len(leaps) - NEAR_OVER)
        if len(far) >= self.limits["records"]:
            # a clip takes the length of such steps away
            where, over, serious = far, FAR_OVER, "clip_threshold" not in block.scalars
        elif len(near) >= self.limits["records"]:
            # streams that drift and rare classes leap as well: a rate that climbs is the reason
            rates = self.context.rates[self.scope]
            where, over, serious = near, NEAR_OVER, rates.climbs(block, at)
        else:
            return Verdict(KEEP)
        severity = 2 if serious and not self.context.competes(self.scope) else 1
        onset = int(steps[where[0]])
        title = f"Loss and gradient leap together: {len(where)} of the last {over} records"
        return Verdict(severity, onset, self._say(title, CLUSTER, logs, int(block.steps[at])))

    def _say_alone(self, logs: F64, step: int) -> Said:
        loss, norm = np.exp(np.minimum(logs - self.usual, 700.0)).tolist()
        return self._say(
            f"Loss leaps {short(loss)}x, gradient norm {short(norm)}x in one step",
            "Both are far beyond everything before, and no clip shortens the step that follows.",
            logs,
            step,
        )

    def _say(self, title: str, meaning: str, logs: F64, step: int) -> Said:
        loss, norm = np.exp(np.minimum(logs, 700.0)).tolist()
        usual_loss, usual_norm = np.exp(self.usual).tolist()
        return Said(
            title=title,
            message=(
                f"At step {step} the loss is {number(loss)} (usually {number(usual_loss)}) and the "
                f"gradient norm {number(norm)} (usually {number(usual_norm)}). {meaning}"
            ),
            evidence=(
                Evidence(
                    label="Loss",
                    value=number(loss),
                    limit=number(math.exp(self.near[0])),
                    kind="loss",
                    scope=self.scope,
                ),
                Evidence(
                    label="Gradient norm over its usual",
                    value=f"{short(norm / usual_norm)}x",
                    limit=f"{short(math.exp(self.near[1] - self.usual[1]))}x",
                    kind="grad_norm",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
