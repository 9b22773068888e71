"""RL pack: a loss that is all but gone under rewards that never rose. What is fitted is not what is
paid for: targets that are cut off or always the same, states that say nothing."""

from __future__ import annotations

import math

import numpy as np

from nanwatch_server.detect.context import Said
from nanwatch_server.detect.robust import TICK, middle
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence

LEVEL_OVER = 64
"""Records of one level."""
FIRST_OVER = 32
"""Records that show an untrained model."""
REWARD_TICKS = 16
"""Medians of 8 rewards before it can be told that they do not rise."""


class HollowLoss(TickRule):
    """Median of 64 losses against the first ones, and the rewards since then."""

    name = "hollow_loss"
    reads = ("loss",)
    keep = LEVEL_OVER
    needs = LEVEL_OVER
    every = 64
    calm = "Rewards rise"
    OWN = ("first", "begun")

    def begin(self) -> None:
        self.first = math.nan
        """Highest level of the first records."""
        self.begun = -1

    def judge(self) -> Verdict:
        limits = self.limits
        losses = self.last(LEVEL_OVER)
        if self.begun < 0:
            early = losses[:FIRST_OVER]
            self.first = max(middle(early), middle(early[:TICK]))
            self.begun = int(self.steps(LEVEL_OVER)[0])
        context = self.context
        if not context.learns_values() or len(context.losses_since) > 1:
            return QUIET  # a critic may know all there is to know of a policy that does not learn
        patience = min(
            limits["patience"], max(limits["least"], limits["share"] * context.planned())
        )
        rewards = context.returns.upto(self.step, context.returns.medians.capacity)
        if self.count < patience or len(rewards) < REWARD_TICKS:
            return QUIET
        level = middle(losses)
        if not 0 < level <= limits["left"] * self.first or context.pays(self.step) is not False:
            return QUIET
        # rewards that never differ: none was found yet, or there is no more to earn
        varies = float(rewards.max() - rewards.min()) > 1e-3 * float(np.abs(rewards).max())
        return Verdict(2 if varies else 1, self.begun, self._say(level))

    def _say(self, level: float) -> Said:
        earned = self.context.earned(self.step)
        left = f"{short(100 * level / self.first)} %"
        return Said(
            title=f"Loss fell to {left} of its start, rewards never rose",
            message=(
                f"Median of the last {LEVEL_OVER} losses is {number(level)} at step {self.step}, "
                f"it began at {number(self.first)}; rewards stand at {number(earned)} as at the "
                "beginning. What the loss asks for is learnt, and it is not what the rewards ask "
                "for."
            ),
            evidence=(
                Evidence(
                    label="Loss left of its start",
                    value=left,
                    limit=f"{short(100 * self.limits['left'])} %",
                    kind="loss",
                    scope=self.scope,
                ),
                Evidence(label="Rewards now", value=number(earned), kind="reward"),
            ),
            kind="loss",
        )
