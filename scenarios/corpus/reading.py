"""A trace as `labels` reads it: series by scope and kind, bad attempts, levels. Pure numpy.

Words as in docs/corpus.md: a level is the median of 25 records, start the median of the first 50,
end that of the last tenth, best the lowest level.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nanwatch_server.store.codec import F64, I64
from scenarios.corpus.traces import Trace

LEVEL = 25
START = 50
STREAK = 5
"""Attempts in a row without an update, from which on gradients that are not finite are trouble."""
SETTLING = 20
"""A loss scaler finds its scale within so many attempts (2^16 halves 16 times)."""
VALUES = ("loss", "param_norm", "update_norm", "q_mean", "q_min", "q_max", "q_target_mean",
          "reward", "logit_max")  # fmt: skip
"""Kinds of which one value that is not finite makes an attempt bad."""


class Column(NamedTuple):
    """Records of one series."""

    steps: I64
    values: F64

    def where(self, mask: np.ndarray) -> Column:
        """Some of the records."""
        return Column(self.steps[mask], self.values[mask])

    def __len__(self) -> int:
        return len(self.steps)


class Course(NamedTuple):
    """How a series went, in four numbers and its levels."""

    start: float
    best: float
    end: float
    spread: float
    """1.4826 × MAD of the first 50 records."""
    levels: F64
    firsts: I64
    """First step of each level."""


def course(column: Column) -> Course | None:
    """None for a series too short to tell: fewer than 150 records."""
    steps, values = column
    if len(values) < 150:
        return None
    count = len(values) // LEVEL
    levels = np.median(values[: count * LEVEL].reshape(count, LEVEL), axis=1)
    first = values[:START]
    start = float(np.median(first))
    return Course(
        start=start,
        best=float(levels.min()),
        end=float(np.median(values[-max(LEVEL, len(values) // 10) :])),
        spread=float(1.4826 * np.median(np.abs(first - start))),
        levels=levels,
        firsts=steps[: count * LEVEL : LEVEL],
    )


@dataclass(frozen=True)
class Reading:
    """One trace by scope, kind and layer."""

    trace: Trace

    @cached_property
    def columns(self) -> dict[tuple[str, str, str, str], Column]:
        """(stage, scope, kind, layer) → records."""
        return {
            (one.stage, one.scope, one.kind, one.layer): Column(*both)
            for one, both in self.trace.series().items()
        }

    def of(self, *kinds: str, stage: str = "train") -> list[tuple[str, Column]]:
        """(scope, records) of every series of these kinds, layers included."""
        return [
            (scope, column)
            for (at, scope, kind, _), column in self.columns.items()
            if at == stage and kind in kinds
        ]

    def one(self, kind: str, scope: str) -> Column | None:
        """The series of a kind and scope itself, without layers."""
        return self.columns.get(("train", scope, kind, ""))

    @cached_property
    def last(self) -> int:
        """Last attempt."""
        return max((int(column.steps[-1]) for column in self.columns.values()), default=0)

    @cached_property
    def first_bad(self) -> int | None:
        """First bad attempt."""
        steps = [
            int(column.steps[bad.argmax()])
            for _, column in self.of(*VALUES)
            if (bad := ~np.isfinite(column.values)).any()
        ]
        for scope, column in self.of("grad_norm"):
            applied = self.one("update_applied", scope)
            bad = column.steps[~np.isfinite(column.values)]
            steps += [int(step) for step in bad if _is_bad(int(step), applied)][:1]
        return min(steps, default=None)

    def good(self, column: Column, scope: str) -> Column:
        """Its finite records before the first bad attempt, without skipped attempts."""
        steps, values = column
        keep = np.isfinite(values)
        if self.first_bad is not None:
            keep &= steps < self.first_bad
        applied = self.one("update_applied", scope)
        if applied is not None:
            keep &= ~np.isin(steps, applied.steps[applied.values == 0])
        return column.where(keep)

    def losses(self, stage: str = "train") -> list[Column]:
        """Loss of every scope, good records."""
        return [self.good(column, scope) for scope, column in self.of("loss", stage=stage)]


def _is_bad(step: int, applied: Column | None) -> bool:
    """A gradient that is not finite: used for an update, or the first of a streak of skips."""
    if applied is None:
        return True
    at = int(np.searchsorted(applied.steps, step))
    least = SETTLING if step <= SETTLING else STREAK
    following = applied.values[at : at + least]
    used = len(following) > 0 and following[0] == 1
    return bool(used or (len(following) == least and not following.any()))
