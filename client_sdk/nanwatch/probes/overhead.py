"""What the SDK costs on the training thread: measured all the time, kept within a budget.

`Overhead` measures, `Cadence` thins out one kind of pass so that all passes together stay within
`max(1 % of the step, 100 µs)` (design 5), or below the hard cap of `NANWATCH_BUDGET`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SMOOTHING = 0.05
"""Weight of the newest step in the moving average."""

BUDGET_SHARE = 0.01
BUDGET_LEAST_S = 100e-6
"""Overhead budget: max(1 % of the step, 100 µs) (design 5)."""

CADENCE_MOST = 1024
WARM_UP_PASSES = 5
"""The first passes pay for torch's own warming up and say nothing."""

ALERT_ATTEMPTS = 200
"""After a notice every attempt is measured for this long."""


class Overhead:
    """Time between attempts, and the share of it that was ours. Training thread only."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, cap: float | None = None
    ) -> None:
        self._clock = clock
        self.cap = cap
        """Hard cap, as a share of the step; None for the default budget."""
        self._closed_at: float | None = None
        self._own_s = 0.0
        self.step_s = 0.0
        """Length of the last step, in seconds; 0 before there was one."""
        self.share = 0.0
        """Share of the step time spent inside the SDK, 0 to 1 (moving average)."""

    @property
    def budget_s(self) -> float:
        """Seconds that one step may lose to passes of ours."""
        if self.cap is not None:
            return self.cap * self.step_s
        return max(BUDGET_SHARE * self.step_s, BUDGET_LEAST_S)

    def spent(self, seconds: float) -> None:
        """Time the SDK took just now."""
        self._own_s += seconds

    def step(self) -> float | None:
        """An attempt closed: seconds since the one before, None for the first."""
        now = self._clock()
        before, self._closed_at = self._closed_at, now
        own_s, self._own_s = self._own_s, 0.0
        if before is None:
            return None
        self.step_s = now - before
        share = min(1.0, own_s / self.step_s) if self.step_s > 0 else 0.0
        self.share += SMOOTHING * (share - self.share)
        return self.step_s


class Cadence:
    """How often a pass of one kind may run within its part of the budget."""

    def __init__(self, overhead: Overhead, share: float = 1.0) -> None:
        self._overhead = overhead
        self._share = share
        self.every = 1
        self._since = 0
        self._alert = 0
        self._cost_s = 0.0
        self._passes = 0

    def due(self) -> bool:
        """True if this attempt is to be measured. Ask once an attempt."""
        self._since += 1
        if self._alert > 0 and self._overhead.cap is None:
            self._alert -= 1
        elif self._since < self.every:
            return False
        self._since = 0
        return True

    def due_at(self, step: int) -> bool:
        """The same by the step alone, for what only all ranks together can measure.

        Each rank keeps to multiples of a power of two: whatever each of them can afford, they
        meet at the multiples of the largest, without a word to each other.
        """
        if self._alert > 0 and self._overhead.cap is None:
            self._alert -= 1
            return True
        return step % self.common_every == 0

    @property
    def common_every(self) -> int:
        """`every` as a power of two, not below it."""
        return 1 << (self.every - 1).bit_length()

    def spent(self, seconds: float) -> None:
        """Adapt to what a pass cost (moving average) and how long a step takes."""
        self._passes += 1
        if self._passes <= WARM_UP_PASSES:
            return
        # One pass that the system interrupted must not thin out the series for long.
        spent = min(seconds, 3 * self._cost_s) if self._cost_s else seconds
        self._cost_s = 0.9 * self._cost_s + 0.1 * spent if self._cost_s else spent
        budget = self._share * self._overhead.budget_s
        most = CADENCE_MOST
        self.every = min(most, max(1, math.ceil(self._cost_s / budget))) if budget > 0 else most

    def alert(self) -> None:
        """Something was noticed: look at every attempt for a while."""
        self._alert = ALERT_ATTEMPTS
