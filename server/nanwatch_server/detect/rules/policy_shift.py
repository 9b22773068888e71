"""RL pack: updates that move the policy too far at once (approximate KL of PPO and its kin)."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import number, short
from nanwatch_server.domain.models import Evidence


class PolicyShift(TickRule):
    """Records beyond the limit among the last 24; only where a policy is learnt."""

    name = "policy_shift"
    reads = ("kl",)
    keep = 64
    needs = 16
    calm = "The policy moves in small steps again"

    def judge(self) -> Verdict:
        limits = self.limits
        if not self.context.learns_policy():
            return QUIET
        window = self.last(24)
        beyond = window > limits["large"]
        hits = int(beyond.sum())
        if not beyond[-8:].any():
            return Verdict(KEEP) if hits >= limits["often"] else QUIET
        top = float(np.max(window))
        # against a fixed reference (as in learning from preferences) it grows as rewards do
        harmful = hits >= limits["often"] and not self.context.pays(self.step)
        severity = 2 if harmful else 1
        said = Said(
            title=f"Policy moves too far: KL {short(top)} a step",
            message=(
                f"KL divergence exceeded {number(limits['large'])} in {hits} of the last "
                f"{len(window)} records, the largest {number(top)} by step {self.step}; 0.01 to "
                "0.05 is usual. Such updates undo what was learnt."
            ),
            evidence=(
                Evidence(
                    label="KL",
                    value=number(top),
                    limit=number(limits["large"]),
                    kind="kl",
                    scope=self.scope,
                ),
            ),
            kind="kl",
        )
        return Verdict(severity, int(self.steps(24)[int(np.argmax(beyond))]), said)
