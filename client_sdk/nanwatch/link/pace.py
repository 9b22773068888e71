"""How long the background thread sleeps between two frames, and what a frame may cost.

A frame costs about the same whether it holds one attempt or fifty, and what it costs is taken from
the training: where that is more than a share of the time, frames come less often, up to a bound
that keeps the page live. `link.worker` asks; no I/O here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

INTERVAL_S = 0.05
"""Between two frames, unless the server wishes for another interval."""
INTERVAL_MOST_S = 0.5
STRETCHED_MOST_S = 0.1
"""Frames come no less often because of what they cost: 150 ms from `log` to a query (design 12)."""
SHARE = 0.002
"""Part of one core that frames may take before they come less often."""
SMOOTHING = 0.2


class Pace:
    """Interval between two frames. Background thread only."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._began_s = 0.0
        self._cost_s = 0.0
        self._wished_s = INTERVAL_S

    def wish(self, interval_s: float, least_s: float = 0.01) -> None:
        """The server wishes for an interval."""
        self._wished_s = min(INTERVAL_MOST_S, max(least_s, interval_s))

    def begin(self) -> None:
        """A round of work begins."""
        self._began_s = self._clock()

    def sent(self) -> None:
        """It has sent a frame: what that took of this thread's CPU time."""
        cost_s = self._clock() - self._began_s
        if self._cost_s <= 0.0:
            self._cost_s = cost_s
        else:  # one long round (a checkpoint's hash, a flight recorder file) hardly moves it
            self._cost_s += SMOOTHING * (min(cost_s, 3 * self._cost_s) - self._cost_s)

    @property
    def interval_s(self) -> float:
        """Seconds from one frame to the next."""
        return max(self._wished_s, min(STRETCHED_MOST_S, self._cost_s / SHARE))


class Alarm:
    """Ends a sleep early. A bare lock: an `Event` costs ten times as much Python at each sleep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the sleep that is going on, or the next one. Any thread."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it rings already

    def sleep(self, seconds: float) -> None:
        """Until it rings, at most so long."""
        self._lock.acquire(timeout=max(0.0, seconds))
