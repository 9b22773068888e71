"""Base of rules for logs that hold few records, each for many steps: an epoch, or ten steps and
more. The rules are `loss_means` and `coin_toss`."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import Alarm
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.robust import middle
from nanwatch_server.detect.tick import TickRule
from nanwatch_server.domain.facts import EPOCHS
from nanwatch_server.domain.models import Finding

STRIDE = 10
"""Steps from one record to the next of a log that keeps means, where it does not count epochs."""


class MeansRule(TickRule):
    """A rule that reads records far from each other only: where one comes sooner, it begins anew.
    Most logs hold every step, and must cost nothing here."""

    before = -STRIDE
    """Step of the record before."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.STATE = (*cls.STATE, "before")

    def update(self, block: Block) -> list[Finding]:
        """Findings of these records."""
        far = block if EPOCHS in self.context.facts else self._far(block)
        return super().update(far) if far is not None else []

    def _far(self, block: Block) -> Block | None:
        """The records behind the last one that came too soon; None if that is the newest."""
        steps, before = block.steps, self.before
        self.before = int(steps[-1])
        keep = len(block)
        if self.before - (int(steps[-2]) if len(block) > 1 else before) >= STRIDE:  # hardly ever
            near = np.flatnonzero(np.diff(steps, prepend=before) < STRIDE)
            if not near.size:
                return block
            keep = int(near[-1]) + 1
        if self.alarm.seen:  # also of losses that were NaN
            self._fresh()
            self.alarm = Alarm()
        return block.part(keep, len(block)) if keep < len(block) else None

    def advances(self, n: int) -> bool:
        """True if the last `n` records are those of `n` steps: several may share an epoch."""
        return middle(np.diff(self.steps(n))) >= 1
