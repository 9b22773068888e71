"""RL pack: updates that move the policy too far at once (approximate KL of PPO and its kin)."""

from __future__ import annotations

import numpy as np

from nanwatch_server.detect.alarm import KEEP
from nanwatch_server.detect.context import Said
from nanwatch_server.detect.tick import QUIET, TickRule, Verdict
from nanwatch_server.domain.facts import fact_number, number, short
from nanwatch_server.domain.models import Evidence

REFERENCE = ("kl", "kl_weight", "kl_coef", "kl_coeff", "kl_beta", "kl_penalty", "init_kl_coef",
             "ref_kl")  # fmt: skip
"""Names of the weight of a penalty: then the KL is that to a model that stays, which grows as
rewards do, and not that of a step..."""
STEP = ("target_kl", "kl_target", "desired_kl", "max_kl")
"""... unless one of these says how far a step may go (PPO, TRPO)."""


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
        reference = (fact_number(self.context.facts, *REFERENCE) or 0.0) > 0
        reference &= fact_number(self.context.facts, *STEP) is None
        large = limits["large_reference" if reference else "large"]
        beyond = window > large
        hits = int(beyond.sum())
        if not beyond[-8:].any():
            return Verdict(KEEP) if hits >= limits["often"] else QUIET
        top = float(np.max(window))
        harmful = hits >= limits["often"] and not self.context.pays(self.step)
        severity = 2 if harmful else 1
        said = Said(
            title=f"Policy moves too far: KL {short(top)} "
            + ("to the reference" if reference else "a step"),
            message=(
                f"KL divergence exceeded {number(large)} in {hits} of the last "
                f"{len(window)} records, the largest {number(top)} by step {self.step}; "
                + (
                    "the reference would hardly ever do what the policy does, and rewards that "
                    "were learnt near it say little there."
                    if reference
                    else "0.01 to 0.05 is usual. Such updates undo what was learnt."
                )
            ),
            evidence=(
                Evidence(
                    label="KL",
                    value=number(top),
                    limit=number(large),
                    kind="kl",
                    scope=self.scope,
                ),
            ),
            kind="kl",
        )
        return Verdict(severity, int(self.steps(24)[int(np.argmax(beyond))]), said)
