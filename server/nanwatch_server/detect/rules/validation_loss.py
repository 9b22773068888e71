"""Evaluations that get far worse while the training looks well: overfitting, stale BatchNorm
statistics, another distribution. The only rule that reads the stage `val`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nanwatch_server.detect.alarm import REPEAT
from nanwatch_server.detect.block import F64
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import Ring, middle
from nanwatch_server.detect.running import BUFFERS
from nanwatch_server.detect.tick import QUIET, EvaluationRule, Verdict
from nanwatch_server.domain import labels
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

OVER = 3
"""Evaluations in a row that must agree."""


class ValidationLoss(EvaluationRule):
    """The last evaluations against the best one and the untrained model."""

    name = "validation_loss"
    calm = "Validation loss near its best again"
    STATE = ("alarm", "recent", "best", "first", "best_step", "drifted", "beyond",
             "origin")  # fmt: skip
    origin = math.nan
    """Largest that an untrained model gave in this run, in training or at an evaluation, before
    whatever it was trained for next."""

    def restart(self) -> None:
        self.recent = Ring(1, OVER)
        self.best = math.inf
        self.first = math.nan
        self.best_step = -1
        self.beyond = 0
        """Evaluations in a row far above the first one."""
        self.drifted = False
        """The running statistics were seen to have moved."""

    def judge(self, loss: float, step: int) -> Verdict:
        self.recent.push(np.array([[loss]]))
        if math.isnan(self.first):
            self.first = loss
        window = self.recent.window(OVER)[0]
        self.beyond = self.beyond + 1 if loss >= self.limits["ratio"] * self.first > 0 else 0
        if len(window) == OVER and middle(window) < self.best:
            self.best, self.best_step = middle(window), step
            if (buffers := self.context.buffers.get(self.scope)) is not None:
                buffers.compare_from_here()
        lowest = float(window.min())
        untrained = self.progress.first
        untrained = untrained if math.isfinite(untrained) else self.first
        self.origin = float(np.fmax(self.origin, max(untrained, self.first)))
        worse = lowest >= self.limits["ratio"] * self.best > 0
        # what is evaluated may be measured in another unit than what is trained
        far = lowest >= self.limits["times_first"] * self.first > 0
        worse &= far or lowest >= self.limits["untrained"] * untrained
        worse |= self._left(lowest, untrained, step)
        apart = self._apart(lowest, untrained, step)
        if len(window) < OVER or not (worse or apart):
            return self._begins(window, step)
        if not self.drifted and self._drift()[0] >= self.limits["drift"]:
            self.drifted = True
            self.alarm.last_emit = min(self.alarm.last_emit, self.alarm.seen - REPEAT)  # news
        # whoever wins, what is evaluated is the same each time
        never = self.beyond >= self.limits["beyond"] and not self.context.learns_policy()
        severity = 1 if self.context.competes(self.scope) and not never else 2
        said = self._say(middle(window), step)
        if apart and (buffers := self.context.buffers.get(self.scope)) and buffers.names:
            said.evidence += (self._unfit(lowest, step, buffers.names[0]),)
        return Verdict(severity, self.best_step, said)

    def _begins(self, window: F64, step: int) -> Verdict:
        """Overfitting as it begins, worth knowing: each evaluation is worse than the one before,
        all are above the best, and the training loss has gone on falling."""
        rises = bool((np.diff(window) > 0).all()) and len(window) == OVER
        above = float(window.min()) >= self.limits["begins"] * self.best > 0
        above &= float(window.min()) >= self.limits["left_untrained"] * self.origin
        fell = self._trained(step) <= self.limits["fell"] * self._trained(self.best_step)
        if not (rises and above and fell) or self.context.competes(self.scope):
            return QUIET
        said = self._say(middle(window), step)
        said.title = (
            f"Validation loss rises from {short(self.best)} to {short(float(window[-1]))} while "
            "the training loss falls"
        )
        least = number(self.limits["begins"] * self.best)
        said.evidence = (replace(said.evidence[0], limit=least),)
        return Verdict(1, self.best_step, said)

    def _trained(self, step: int) -> float:
        """Training loss at the time; NaN while unknown."""
        now = self.progress.upto(step, 1)
        return float(now[-1]) if now.size else math.nan

    def _unfit(self, lowest: float, step: int, layer: str) -> Evidence:
        return Evidence(
            label=labels.STATISTICS_UNFIT,
            value=f"{short(lowest / self._trained(step))}x",
            limit=f"{short(self.limits['apart'])}x",
            kind=BUFFERS,
            scope=self.scope,
            layer=layer,
        )

    def _apart(self, lowest: float, untrained: float, step: int) -> bool:
        """True if evaluations lie far above the training loss of the same time and above what an
        untrained model makes: there may have been no good one to compare with, as of a new task."""
        apart = lowest >= self.limits["apart"] * self._trained(step) > 0
        above = lowest >= self.limits["apart_untrained"] * untrained > 0
        # a model that is trained on begins far below what an untrained one gives
        return apart and above and lowest >= self.limits["apart_origin"] * self.origin

    def _left(self, lowest: float, untrained: float, step: int) -> bool:
        """True if evaluations are clearly worse than the best while the training loss went far
        below them, though an untrained model is worse still."""
        limits = self.limits
        left = lowest >= limits["left"] * self.best > 0
        left &= lowest >= limits["left_untrained"] * untrained > 0
        return left and lowest >= limits["apart"] * self._trained(step) > 0

    def _drift(self) -> tuple[float, str]:
        """How far the running statistics of this model have moved, and which moved most."""
        buffers = self.context.buffers.get(self.scope)
        return buffers.drift() if buffers is not None else (1.0, "")

    def _say(self, level: float, step: int) -> Said:
        trained, most = self._trained(step), self.limits["ratio"] * self.best
        title = f"Validation loss {short(level / self.best)}x above its best: {short(level)}"
        if level < most:
            most = self.limits["apart"] * trained
            title = f"Validation loss {short(level / trained)}x the training loss: {short(level)}"
        shows = f": it is {number(trained)}" if math.isfinite(trained) else ""
        evidence = [
            Evidence(
                label="Validation loss",
                value=number(level),
                limit=number(most),
                kind="loss",
                scope=self.scope,
            )
        ]
        drift, layer = self._drift()
        if drift >= self.limits["drift"]:
            evidence.append(
                Evidence(
                    label=labels.STATISTICS_MOVED,
                    value=f"{short(drift)}x",
                    limit=f"{short(self.limits['drift'])}x",
                    kind=BUFFERS,
                    scope=self.scope,
                    layer=layer,
                )
            )
        return Said(
            title=title,
            message=(
                f"The last {OVER} evaluations up to step {step} gave {number(level)}; the best, "
                f"at step {self.best_step}, gave {number(self.best)}. The training loss does not "
                f"show it{shows}."
            ),
            evidence=tuple(evidence),
            kind="loss",
        )
