"""The learning rate of one scope of late: whether it rose, climbs, or is being tested. Kept in the
`Context` of a run; names the cause when trouble follows a rise (reference rule 17)."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.robust import Ring
from nanwatch_server.detect.state import Stateful

OVER = 200
"""Records within which a rise of the learning rate is told (R rule 17)."""
KEPT = 2 * OVER
"""Records kept: blocks of what is measured now and then may speak of earlier attempts."""
ROSE = 1.5
"""What counts as a rise: R section 3 (e) restarts windows at 20 %; schedules jitter less."""
TEST_RECORDS, TEST_FROM, TEST_OVER = 30, 1e-4, 100.0
"""A test of learning rates (Smith, arXiv:1506.01186) raises the rate by one factor a step over
decades, from one that teaches nothing: fastai begins at 1e-7, Lightning at 1e-8."""
JITTER, JITTER_LEAST = 0.02, 1e-5
"""How far a step's factor may lie from the usual one, as logarithms: rates come in float32."""


class Rates(Stateful):
    """Learning rates of one scope; `block` and `at` name an attempt that `read` has not seen."""

    STATE = ("rates", "steps")

    def __init__(self) -> None:
        self.rates = Ring(1, KEPT)
        self.steps = Ring(1, KEPT, np.int64)

    def read(self, block: Block) -> None:
        """Keep the last rates of a block that the rules have seen."""
        newest = slice(max(0, len(block) - KEPT), None)
        self.rates.push(block.scalars["lr"][None, newest])
        self.steps.push(block.steps[None, newest])

    def _upto(self, block: Block, at: int) -> tuple[F64, I64]:
        """The last rates up to the attempt, and their steps."""
        rates, steps = self.rates.window(KEPT)[0], self.steps.window(KEPT)[0]
        if (own := block.scalars.get("lr")) is not None:
            rates = np.concatenate([rates, own[: at + 1]])
            steps = np.concatenate([steps, block.steps[: at + 1]])
        else:
            past = steps <= block.steps[at]
            rates, steps = rates[past], steps[past]
        return rates[-OVER:], steps[-OVER:]

    def climbs(self, block: Block, at: int) -> bool:
        """True if the rate has risen steadily: a warm-up, or a schedule gone wrong."""
        rates, _ = self._upto(block, at)
        rates = rates[np.isfinite(rates)]
        half = len(rates) // 2
        return half > 0 and bool(rates[-1] > 1.02 * rates[half] > 1.02**2 * rates[0])

    def tests(self, block: Block, at: int) -> bool:
        """True if the rate has risen by one factor a record over decades: a test of learning rates,
        which goes on until the loss diverges."""
        rates, _ = self._upto(block, at)
        rates = rates[np.isfinite(rates) & (rates > 0)]
        if len(rates) < TEST_RECORDS:
            return False
        factors = np.diff(np.log(rates))
        factor = float(np.median(factors[1 - TEST_RECORDS :]))
        odd = np.flatnonzero(np.abs(factors - factor) > max(JITTER_LEAST, JITTER * factor))
        begun = int(odd[-1]) + 1 if odd.size else 0
        if not factor > 0 or len(rates) - begun < TEST_RECORDS:
            return False
        return bool(rates[begun] <= TEST_FROM and rates[-1] >= TEST_OVER * rates[begun])

    def rise(self, block: Block, at: int) -> tuple[float, float, int] | None:
        """(lowest rate, rate now, step of the lowest); None unless it rose."""
        rates, steps = self._upto(block, at)
        if not len(rates):
            return None
        usable = np.where(np.isfinite(rates) & (rates > 0), rates, np.inf)
        low = int(len(usable) - 1 - np.argmin(usable[::-1]))
        now = float(rates[-1])
        if not math.isfinite(usable[low]) or not now >= ROSE * usable[low]:
            return None
        return float(usable[low]), now, int(steps[low])
