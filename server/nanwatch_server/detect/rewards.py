"""Largest absolute reward of a run, asked "as of step n". Fed by the engine before the rules, since
rewards come in tables of their own; answers never look past a step."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.state import Stateful

KINDS = ("reward_abs_max", "reward")
CHANGES_MOST = 1024


class Rewards(Stateful):
    """The steps at which a larger reward than ever came, over all scopes."""

    STATE = ("steps", "largest")

    def __init__(self) -> None:
        self.steps: I64 = np.empty(0, np.int64)
        self.largest: F64 = np.empty(0)

    def learn(self, block: Block) -> None:
        """Rewards of a block, if it has any."""
        for kind in KINDS:
            if (values := block.scalars.get(kind)) is None:
                continue
            known = np.flatnonzero(np.isfinite(values))
            steps = np.concatenate([self.steps, block.steps[known]])
            sizes = np.concatenate([self.largest, np.abs(values[known])])
            order = np.argsort(steps, kind="stable")
            steps, sizes = steps[order], np.maximum.accumulate(sizes[order])
            larger = np.flatnonzero(np.diff(sizes, prepend=-np.inf) > 0)[-CHANGES_MOST:]
            self.steps, self.largest = steps[larger], sizes[larger]

    def upto(self, steps: I64) -> F64:
        """Largest reward up to each step; NaN while none was logged."""
        found = np.full(len(steps), np.nan)
        if not len(self.steps):
            return found
        at = np.searchsorted(self.steps, steps, side="right") - 1
        known = at >= 0
        found[known] = self.largest[at[known]]
        return found
