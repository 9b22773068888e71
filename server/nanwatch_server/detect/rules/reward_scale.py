"""Rewards of a size that nothing can be learnt from: a critic whose errors stay thousands of times
its values, a policy whose gradient drowns in the entropy bonus. Nothing grows, nothing breaks."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import TICK, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

RECENT = 64


class RewardScale(TickRule):
    """A squared loss of Q far above Q², records after records: an optimizer whose steps have the
    size of its rate cannot carry the values there."""

    name = "reward_scale"
    reads = ("q_mean",)
    beside = ("q_std",)
    keep = RECENT
    calm = "Q-values come near their targets"
    OWN = ("since",)

    def begin(self) -> None:
        self.since = -1
        """First step of the present stretch."""

    def judge(self) -> Verdict:
        limits = self.limits
        losses = self.progress.upto(self.step, RECENT // TICK)
        spread = np.nan_to_num(self.last(RECENT, "q_std"))
        value = float(np.hypot(self.last(RECENT), spread).max())
        error = math.sqrt(max(0.0, middle(losses))) if losses.size else 0.0
        if not value > 0 or error < max(limits["least"], limits["apart"] * value):
            self.since = -1
            return QUIET
        self.since = int(self.steps(TICK)[0]) if self.since < 0 else self.since
        early = self.progress.upto(self.step, 1024).size * TICK < limits["records"]
        comes = self.progress.falling(self.step)
        comes |= self.progress.gained(self.step) > limits["gained"]
        if early or (comes and error < limits["hopeless"] * value):
            return Verdict(KEEP)
        return Verdict(2, self.since, self._say(error, value))

    def _say(self, error: float, value: float) -> Said:
        return Said(
            title=f"Critic's errors are {short(error / value)}x its values: {short(error)}",
            message=(
                f"The root of the critic's loss is {number(error)} at step {self.step}, its values "
                f"are about {number(value)}: the targets are too far away for steps of this size."
            ),
            evidence=(
                Evidence(
                    label="Root of the loss over |Q|",
                    value=f"{short(error / value)}x",
                    limit=f"{short(self.limits['apart'])}x",
                    kind="loss",
                    scope=self.scope,
                ),
            ),
            kind="loss",
        )


class TinyRewards(TickRule):
    """An entropy that stays where it began while no reward was ever of a size to be learnt from."""

    name = "tiny_rewards"
    reads = ("entropy",)
    keep = RECENT
    needs = RECENT
    every = 16
    calm = "The policy moves"
    OWN = ("first", "begun")

    def begin(self) -> None:
        self.first = math.nan
        """Median of the first entropies."""
        self.begun = -1

    def judge(self) -> Verdict:
        limits = self.limits
        level = middle(self.last(RECENT))
        if math.isnan(self.first):
            self.first, self.begun = middle(self.last(RECENT)[:16]), int(self.steps(RECENT)[0])
        reward = self.context.rewards.upto(np.array([self.step]))[0]
        uniform = self.first > 0 and level >= limits["kept"] * self.first
        if self.count < limits["records"] or not 0 < reward <= limits["tiny"] or not uniform:
            return QUIET
        if self.context.pays(self.step):
            return QUIET
        return Verdict(2, self.begun, self._say(level, float(reward)))

    def _say(self, level: float, reward: float) -> Said:
        return Said(
            title=f"Rewards of {short(reward)} move nothing: entropy stays {short(level)}",
            message=(
                f"No reward was larger than {number(reward)} up to step {self.step}, and the "
                f"policy's entropy is {number(level)} as at its start ({number(self.first)}): "
                "beside the entropy bonus and the noise such rewards have no weight."
            ),
            evidence=(
                Evidence(
                    label="Policy entropy",
                    value=number(level),
                    limit=number(self.limits["kept"] * self.first),
                    kind="entropy",
                    scope=self.scope,
                ),
            ),
            kind="entropy",
        )
