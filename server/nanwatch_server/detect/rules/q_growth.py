"""Rules 6 and 7 on Q-values: growth against the bound that rewards and discount allow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nanwatch_server.detect.alarm import KEEP, Alarm, unknown
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import Context, Rule, Said, cleared, finding
from nanwatch_server.detect.growth import GrowthBank, corner
from nanwatch_server.detect.robust import Ring, cells, hold_last, log_or_nan, median
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence, Finding

SQUARE_OVERFLOW = 1.8e19
"""The squared error of a larger Q is not finite in fp32."""
NEAR_BOUND = 0.5
"""A share of what rewards allow below which the bound says nothing against the values."""


class QGrowth(Rule):
    """Growth alone is a notice: every Q grows while it learns. Beyond the bound it is an alarm."""

    name = "q_growth"
    any_of = ("q_min", "q_max", "q_mean", "q_target_mean")
    STATE = ("alarm", "bank", "last", "beyond", "spread", "means", "reward", "crossed")

    def __init__(self, context: Context, scope: str) -> None:
        super().__init__(context, scope)
        self.alarm = Alarm()
        self.bank = GrowthBank(1, self.limits)
        self.last: F64 = np.full(1, np.nan)
        self.beyond = 0
        """Records in a row above the bound."""
        self.spread = Ring(1, 8)
        """Standard deviation of Q over the batch, where sent."""
        self.means = Ring(1, 8)
        """Mean of Q over the batch, with its sign."""
        self.reward = float("nan")
        self.crossed = -1
        """Step at which the bound was crossed; -1 while below."""

    def update(self, block: Block) -> list[Finding]:
        size = self._size(block)
        known = np.flatnonzero(np.isfinite(size))
        logs = hold_last(log_or_nan(size[None, known]), self.last)
        std = block.scalars.get("q_std", np.full(len(block), np.nan))[known]
        means = block.scalars.get("q_mean", np.full(len(block), np.nan))[known]
        rewards = self.context.reward_limits[known]
        steps = block.steps[known]
        severities = unknown(size)
        words: dict[int, tuple[Said, int]] = {}
        for start, stop, _ in cells(self.bank.count, len(known)):
            self._count_beyond(logs[0, start:stop], rewards[start:stop], steps[start:stop])
            self.spread.push(std[None, start:stop])
            self.means.push(means[None, start:stop])
            self.reward = float(rewards[stop - 1])
            if not self.bank.push(logs[:, start:stop], steps[start:stop]):
                continue
            at = int(known[stop - 1])
            severities[at] = self._judge(int(steps[stop - 1]))
            if severities[at] > 0:
                words[at] = self._say(int(steps[stop - 1])), self._onset()
        found: list[Finding] = []
        for event in self.alarm.sweep(severities):
            if event.what == "clear":
                said = cleared("Q-values no longer growing for 200 steps", "q_max", self.alarm)
            else:
                said, onset = words[event.at]
                if event.fresh:
                    self.alarm.onset = onset
            found.append(finding(self.context, self.name, block, event, self.alarm.onset, said))
        return found

    @staticmethod
    def _size(block: Block) -> F64:
        """Largest absolute Q known per record."""
        size = np.full(len(block), np.nan)
        for kind in QGrowth.any_of:
            if (values := block.scalars.get(kind)) is not None:
                finite = np.where(np.isfinite(values), np.abs(values), np.nan)
                size = np.fmax(size, finite)
        return size

    def _bound(self, reward: float) -> float:
        """Twice the largest value a policy could earn; NaN while no reward was logged."""
        if not math.isfinite(reward):
            return math.nan
        gamma = self.context.gamma() or self.limits["gamma"]
        return 2.0 * max(reward, self.limits["reward_floor"]) / (1.0 - gamma)

    def _count_beyond(self, logs: F64, rewards: F64, steps: I64) -> None:
        over: NDArray[np.bool_] = np.zeros(len(logs), bool)
        for at in range(len(logs)):
            bound = self._bound(float(rewards[at]))
            over[at] = math.isfinite(bound) and logs[at] > math.log(bound)
            if not over[at]:
                self.beyond, self.crossed = 0, -1
                continue
            self.crossed = int(steps[at]) if not self.beyond else self.crossed
            self.beyond += 1

    def _level(self) -> float:
        """Logarithm of |Q| now: median of the last tick."""
        return float(self.bank.level()[0])

    def _rising(self) -> bool:
        """Doubled over the last 128 or 256 records and higher than ever, accelerating or not."""
        above = self.bank.levels[1]
        for blocks in (16, 32):
            window = above.values.window(blocks)[0]
            if len(window) < blocks or not np.isfinite(window).all():
                continue
            if window[-1] - window[0] >= math.log(2.0) and window[-1] >= above.high[0] - 0.05:
                return True
        return False

    def _against(self, step: int) -> bool:
        """Values of a sign that no reward ever had, as large as returns are: they were made up."""
        value, sign = median(self.means.window(8)[0]), self.context.sign(step)
        if not value * sign < 0 or not math.isfinite(self.reward):
            return False
        gamma = self.context.gamma() or self.limits["gamma"]
        returns = abs(self.context.earned(step)) / (1.0 - gamma)
        least = max(self.limits["opposed"] * returns, self.limits["opposed_rewards"] * self.reward)
        return abs(value) >= least

    def _drifts(self) -> bool:
        """Without a discount, values of all states rise together by a reward at every update:
        nothing ends the episodes, so there is nothing that they could come to."""
        value = abs(median(self.means.window(8)[0]))
        spread = median(self.spread.window(8)[0])
        if not value >= self.limits["drift_rewards"] * self.reward > 0:
            return False
        if not spread <= self.limits["drift_spread"] * value:
            return False
        window = self.bank.levels[1].values.window(33)[0]
        if len(window) < 33 or not np.isfinite(window).all() or not self.context.undiscounted():
            return False
        begun, half, now = np.exp(window[[0, 16, 32]])
        return now - half >= self.limits["drift_steady"] * (half - begun) > 0

    def _judge(self, step: int) -> int:
        limits = self.limits
        if self.bank.count < limits["warmup_bound"]:
            return 0
        level, bound = self._level(), self._bound(self.reward)
        doubling = float(self.bank.doubling[0])
        growing = math.isfinite(doubling)
        moving = growing or self._rising()
        over = self.beyond >= limits["records_far"]
        far = over and level >= math.log(limits["beyond_critical"] * bound)
        over = self.beyond >= limits["records"]
        large = self.bank.count >= limits["warmup"] and self._large(level)
        against = self.bank.count >= limits["warmup"] and moving and self._against(step)
        drifts = self.bank.count >= limits["warmup"] and self._drifts()
        if not (far or (over and moving) or (large and moving) or against or drifts):
            if growing and level > math.log(limits["notice_floor"]):
                return 1
            return KEEP if over or (large and self.alarm.level >= 2) else 0
        left = (math.log(SQUARE_OVERFLOW) - level) / math.log(2.0) * doubling
        soon = growing and min(left, doubling * math.log2(1e4)) < limits["soon"]
        return 3 if (far and moving) or soon else 2

    def _large(self, level: float) -> bool:
        """Above the absolute limits, which count only where rewards do not set a better one."""
        modest = self.reward <= self.limits["reward_large"]
        if modest:
            return False
        spread = self.spread.window(8)
        known = spread[np.isfinite(spread)]
        std = float(np.median(known)) if known.size else 0.0
        return level > math.log(self.limits["absolute"]) or std > self.limits["absolute_std"]

    def _onset(self) -> int:
        if math.isfinite(float(self.bank.doubling[0])):
            return self.bank.onset(0)
        level = self.bank.levels[1]
        start = corner(level.values.window(64)[0], level.steps.window(64)[0])
        return min(start, self.crossed) if self.crossed >= 0 else start

    def _say(self, step: int) -> Said:
        level = math.exp(min(709.0, self._level()))
        bound = self._bound(self.reward)
        per_record = self.bank.steps_per_record()
        doubling = float(self.bank.doubling[0]) * per_record
        growing = math.isfinite(doubling)
        title = (
            f"Q-values doubling every {short(doubling)} steps: |Q| {short(level)}"
            if growing
            else f"Q-values still growing: |Q| {short(level)}"
        )
        if math.isfinite(bound):
            known = self.context.gamma()
            gamma = f"{number(known)}" if known else f"{number(self.limits['gamma'])} (assumed)"
            times = level / (bound / 2)
            against = (
                f"With rewards up to {number(self.reward)} and gamma {gamma}, |Q| cannot exceed "
                f"{number(bound / 2)}: it is at {short(times)}x of that."
            )
            if times < NEAR_BOUND:
                against = (
                    f"Rewards reach {number(self.reward)}, and the error of values of this size "
                    "makes gradients that no step fits."
                )
            limit = number(bound)
            if self._against(step):
                sign = "below" if self.context.sign(step) < 0 else "above"
                against = f"Every reward so far was {sign} 0, and these values are not."
            elif self._drifts():
                against = (
                    f"gamma is 1, rewards are at most {number(self.reward)}, and the values of all "
                    "states rise together, no slower than before: it looks as if nothing ended "
                    "their sum. Cut targets at the end of an episode (done), or discount."
                )
                limit = number(self.limits["drift_rewards"] * self.reward)
        else:
            against = "No reward is logged, so the absolute limit counts."
            limit = number(self.limits["absolute"])
        spread = float(self.spread.window(1)[0, -1])
        evidence = [
            Evidence(label="|Q|", value=number(level), limit=limit, kind="q_max", scope=self.scope)
        ]
        if growing:
            evidence.append(Evidence(label="Doubling time", value=f"{short(doubling)} steps",
                                     kind="q_max", scope=self.scope))  # fmt: skip
        if math.isfinite(spread):
            evidence.append(Evidence(label="Standard deviation of Q", value=number(spread),
                                     limit=number(self.limits["absolute_std"]), kind="q_std",
                                     scope=self.scope))  # fmt: skip
        return Said(
            title,
            f"|Q| is {number(level)} at step {step}, rising since step {self._onset()}. {against}",
            tuple(evidence),
            "q_max",
            doubling_steps=doubling if growing else None,
        )

    def restart(self) -> None:
        self.bank.restart()
        self.spread, self.means = Ring(1, 8), Ring(1, 8)
