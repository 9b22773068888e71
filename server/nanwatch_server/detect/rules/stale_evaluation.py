"""Evaluations that give the same to the last bit while the training loss moves: what is evaluated
is not what is trained (a copy, an average that is never updated, a cached result)."""

from __future__ import annotations

import math

from nanwatch_server.detect.context import Context, Said
from nanwatch_server.detect.progress import START_TICKS
from nanwatch_server.detect.robust import TICK, middle
from nanwatch_server.detect.tick import QUIET, EvaluationRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

TICKS_MOST = 1024
"""Medians that are kept."""
NOW_TICKS = 8
"""Medians of eight losses that tell where the training loss stands."""


class StaleEvaluation(EvaluationRule):
    """Equal evaluations in a row, and how far the training loss went meanwhile."""

    name = "stale_evaluation"
    calm = "Validation loss varies again"
    STATE = ("alarm", "same", "count", "begun")

    def __init__(self, context: Context, scope: str) -> None:
        self.same = math.nan
        """Loss of the newest evaluation."""
        self.count = 0
        """Evaluations in a row that gave it."""
        self.begun = -1
        """Step of the first of them."""
        super().__init__(context, scope)

    def restart(self) -> None:
        self.same, self.count, self.begun = math.nan, 0, -1

    def judge(self, loss: float, step: int) -> Verdict:
        limits = self.limits
        if loss != self.same:
            self.same, self.count, self.begun = loss, 0, step
        self.count += 1
        if loss == 0 or self.count < limits["evaluations"] or not self._long(step):
            return QUIET  # a hinge that is solved, or a number nobody computes
        moved = self._moved(step)
        if not abs(moved) >= limits["moved"]:
            return QUIET  # converged: nothing changes any more
        return Verdict(2, self.begun, self._say(step, moved))

    def _long(self, step: int) -> bool:
        """True if so much was trained meanwhile that these are evaluations of their own: many
        scripts log the newest one again and again until the next."""
        begun = min(self.context.losses_since.values(), default=0)
        if step - self.begun < self.limits["share"] * (step - begun):
            return False
        ticks = self.progress.upto(step, TICKS_MOST).size
        ticks -= self.progress.upto(self.begun, TICKS_MOST).size if self.begun >= 0 else 0
        return TICK * ticks >= min(self.limits["records"] * self.count, TICK * TICKS_MOST // 2)

    def _moved(self, step: int) -> float:
        """Change of the training loss since the first of the equal evaluations, relative to the
        larger; NaN while unknown."""
        before = self.progress.upto(self.begun, START_TICKS)
        now = self.progress.upto(step, NOW_TICKS)
        first = middle(before) if before.size else self.progress.first
        if not now.size or not math.isfinite(first):
            return math.nan
        level = middle(now)
        return (level - first) / max(abs(first), abs(level), 1e-300)

    def _say(self, step: int, moved: float) -> Said:
        way = "fell" if moved < 0 else "rose"
        return Said(
            title=f"Validation loss is exactly {short(self.same)} in {self.count} evaluations",
            message=(
                f"The last {self.count} evaluations, from step {self.begun} to {step}, gave "
                f"{number(self.same)} to the last bit, while the training loss {way} by "
                f"{number(100 * abs(moved))} %: what is evaluated is not what is trained."
            ),
            evidence=(
                Evidence(
                    label="Same validation loss in a row",
                    value=str(self.count),
                    limit=str(self.limits["evaluations"]),
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )
