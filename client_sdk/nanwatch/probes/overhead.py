"""What the SDK costs on the training thread, measured all the time and shown on the page."""

from __future__ import annotations

import time
from collections.abc import Callable

SMOOTHING = 0.05
"""Weight of the newest step in the moving average."""


class Overhead:
    """Time between attempts, and the share of it that was ours. Training thread only."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._closed_at: float | None = None
        self._own_s = 0.0
        self.step_s = 0.0
        """Length of the last step, in seconds; 0 before there was one."""
        self.share = 0.0
        """Share of the step time spent inside the SDK, 0 to 1 (moving average)."""

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
