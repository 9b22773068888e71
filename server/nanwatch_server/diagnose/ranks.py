"""One sentence on which rank's numbers went bad first. Pure; used by `syndromes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanwatch_server.domain.facts import fact_number
from nanwatch_server.domain.models import Finding, Severity

SHARED = ("grad_norm", "param_norm")
"""Ranks have these in common, so they cannot tell the ranks apart."""


def first_bad_rank(findings: Sequence[Finding], facts: Mapping[str, str]) -> str:
    """Empty for a training of one process, or where nothing was non-finite."""
    world = int(fact_number(facts, "world_size") or 1)
    bad = [
        f
        for f in findings
        if f.rule == "nonfinite" and not f.cleared and f.severity >= Severity.WARNING
    ]
    if world <= 1 or not bad:
        return ""
    first = min(bad, key=lambda f: (f.onset_step, f.kind in SHARED, f.time))
    step = first.onset_step
    if first.kind in SHARED:
        return (
            f"Gradients went bad at step {step} and no rank's loss before them: ranks share their "
            "gradients, so which of them made the value cannot be told from the numbers."
        )
    ranks = sorted({f.rank for f in bad if f.onset_step == step and f.kind not in SHARED})
    what = first.kind.replace("_", " ")
    if len(ranks) == 1:
        return (
            f"Rank {ranks[0]} of {world} was first: its {what} was not finite at step {step}. The "
            "others got it through the gradients they share: look at that rank's data and device."
        )
    named = ", ".join(map(str, ranks))
    return (
        f"Several ranks at once ({named}) had a {what} that was not finite at step {step}, so the "
        "cause is what they have in common, such as the weights."
    )
