"""What the SDK costs on the training thread: measured all the time, kept within a budget.

`Overhead` measures, `Cadence` thins out one kind of pass so that all passes together stay within
`max(1 % of the step, 100 µs)` (design 5), or below the hard cap of `NANWATCH_BUDGET`.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

SMOOTHING = 0.05
"""Weight of the newest step in the moving average."""

BUDGET_SHARE = 0.01
BUDGET_LEAST_S = 100e-6
"""Overhead budget: max(1 % of the step, 100 µs) (design 5)."""

CADENCE_MOST = 1024
WARM_UP_PASSES = 2
"""The first passes pay for torch's own warming up and say nothing."""

PASSES_REMEMBERED = 5
"""The median of so many is what a pass costs: one that the system interrupted says nothing."""

THINNING_MOST = 2
"""A series is thinned out at most by this factor at a time, and made dense again at once..."""

SURE_PASSES = 2
SURE_SHARE = 0.5
"""... unless the quickest of several passes asks for more: nothing makes a pass quicker than it is.
Half of that is taken at once, so that a pass over thousands of tensors does not cost seconds until
its pace is found; but not more at a time than this, for all of them may have been held up."""
SURE_MOST = 8

ALERT_ATTEMPTS = 200
"""After a notice every attempt is measured for this long."""

OFF = "off: NANWATCH_BUDGET=0"
"""In the coverage: no pass is made."""


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
        self._passes_s = 0.0
        self._typical_s = 0.0
        self._fixed_s = 0.0
        self.step_s = 0.0
        """Length of the last step, in seconds; 0 before there was one."""
        self.share = 0.0
        """Share of the step time spent inside the SDK, 0 to 1 (moving average)."""

    @property
    def budget_s(self) -> float:
        """Seconds that one step may lose to passes: what bookkeeping takes is spent already."""
        if self.cap is not None:
            return max(0.0, self.cap * self._typical_s - self._fixed_s)
        whole = max(BUDGET_SHARE * self._typical_s, BUDGET_LEAST_S)
        # Half of it stays for passes whatever the rest costs: a series must not die out.
        return max(whole / 2, whole - self._fixed_s)

    def spent(self, seconds: float) -> None:
        """Time the SDK took just now."""
        self._own_s += seconds

    def spent_on_pass(self, seconds: float) -> None:
        """Part of what is told to `spent`: a pass over tensors, which need not happen."""
        self._passes_s += seconds

    def pause(self) -> None:
        """The training stood still, or was not watched: the step that runs now has no length."""
        self._closed_at = None
        self._own_s = self._passes_s = 0.0

    def step(self) -> float | None:
        """An attempt closed: seconds since the one before, None for the first."""
        now = self._clock()
        before, self._closed_at = self._closed_at, now
        own_s, self._own_s = self._own_s, 0.0
        fixed_s, self._passes_s = max(0.0, own_s - self._passes_s), 0.0
        if before is None:
            return None
        self.step_s = now - before
        self._typical_s = _smooth(self._typical_s, self.step_s)
        self._fixed_s = _smooth(self._fixed_s, fixed_s)
        share = min(1.0, own_s / self.step_s) if self.step_s > 0 else 0.0
        self.share += SMOOTHING * (share - self.share)
        return self.step_s


def _smooth(average: float, value: float) -> float:
    """Moving average that one long step (evaluation, checkpoint, debugger) hardly moves."""
    if average <= 0.0:
        return value
    return average + SMOOTHING * (min(value, 3 * average) - average)


class Cadence:
    """How often a pass of one kind may run within its part of the budget."""

    def __init__(self, overhead: Overhead, share: float = 1.0, least_s: float = 0.0) -> None:
        self._overhead = overhead
        self._share = share
        self._least_s = least_s
        """Seconds a step that this pass may take in any case, unless a hard cap is set."""
        self.every = 1
        self._since: dict[int, int] = {}
        """Attempts since the last pass of each optimizer: they share the cost of a pass, and
        must not take turns so that always the same one is measured."""
        self._alert = 0
        self._cost_s = 0.0
        self._costs: deque[float] = deque(maxlen=PASSES_REMEMBERED)
        self._passes = 0

    def due(self, optimizer: int = 0) -> bool:
        """True if this attempt of an optimizer is to be measured. Ask once an attempt."""
        since = self._since.get(optimizer, 0) + 1
        if self.alerted:
            self._alert -= 1
        elif since < self.every or self._overhead.cap == 0:
            self._since[optimizer] = since
            return False
        self._since[optimizer] = 0
        return True

    def forget(self, optimizer: int) -> None:
        """That optimizer is gone, and the cost is no longer shared with it."""
        self._since.pop(optimizer, None)

    def due_at(self, step: int) -> bool:
        """The same by the step alone, for what only all ranks together can measure.

        Each rank keeps to multiples of a power of two: whatever each of them can afford, they
        meet at the multiples of the largest, without a word to each other.
        """
        if self.alerted:
            self._alert -= 1
            return True
        return step % self.common_every == 0 and self._overhead.cap != 0

    @property
    def common_every(self) -> int:
        """`every` as a power of two, not below it."""
        return 1 << (self.every - 1).bit_length()

    def spent(self, seconds: float) -> None:
        """Adapt to what a pass cost and how long a step takes."""
        self._overhead.spent_on_pass(seconds)
        self._passes += 1
        if self._passes <= WARM_UP_PASSES:
            return
        self._costs.append(seconds)
        self._cost_s = statistics.median(self._costs)
        budget = self._share * self._overhead.budget_s
        if self._overhead.cap is None:
            budget = max(budget, self._least_s)
        most = THINNING_MOST * self.every
        if len(self._costs) >= SURE_PASSES and budget > 0:
            sure = self._affordable(SURE_SHARE * min(self._costs), budget)
            most = max(most, min(sure, SURE_MOST * self.every))
        self.every = max(1, min(self._affordable(self._cost_s, budget), most))

    def _affordable(self, cost_s: float, budget_s: float) -> int:
        """How often a pass of this cost fits into the budget, which is for one step: every n."""
        if budget_s <= 0:
            return CADENCE_MOST
        each_step = cost_s * max(1, len(self._since))
        return math.ceil(min(CADENCE_MOST, each_step / budget_s))

    def text(self, common: bool = False) -> str:
        """For the coverage: `every attempt`, `every 8`, `every attempt for now, else every 8`.

        `common`: how often all ranks together can measure.
        """
        if self._overhead.cap == 0:
            return OFF
        pairs = [(one, one.common_every if common else one.every) for one in self._parts()]
        usual = _often(every for _, every in pairs)
        now = _often(1 if one.alerted else every for one, every in pairs)
        return usual if now == usual else f"{now} for now, else {usual}"

    def _parts(self) -> Sequence[Cadence]:
        """The cadences that this one is made of."""
        return (self,)

    @property
    def alerted(self) -> bool:
        """True while every attempt is measured because something was noticed."""
        return self._alert > 0 and self._overhead.cap is None

    def alert(self) -> None:
        """Something was noticed: look at every attempt for a while."""
        self._alert = ALERT_ATTEMPTS


def _often(every: Iterable[int]) -> str:
    found = sorted(set(every))
    if not found or found == [1]:
        return "every attempt"
    return f"every {found[0]}" if len(found) == 1 else f"every {found[0]} to {found[-1]}"
