"""Which findings belong to one trouble. Pure; used by the incident book."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanwatch_server.domain.models import Finding, Incident, Severity

Key = tuple[str, str, str, int]

_DIVERGENCE = ("nonfinite", "skip_streak", "clip_saturation", "grad_explosion", "grad_spike",
               "q_growth", "target_gap", "loss_explosion", "loss_growth", "loss_spike",
               "loss_divergence", "task_shock", "constant_loss", "loss_scale", "logit_growth",
               "attention_growth", "weight_growth", "buffer_drift", "adam_rms", "policy_shift",
               "replay_health", "masked_nan", "surge", "weight_leap", "grad_level",
               "joint_rise", "loss_means", "stand_in", "twin_gap", "idle_statistics",
               "kept_gradients", "half_loss", "near_edge")  # fmt: skip
_STANDSTILL = ("plateau", "coin_toss", "idle_weights", "vanishing_gradient", "dead_units",
               "saturated_units",
               "update_ratio", "reward_scale", "tiny_rewards", "rate_gone", "flat_validation",
               "posterior_collapse", "above_chance", "unreached",
               "hollow_loss", "undone")  # fmt: skip

FAMILIES = {
    **dict.fromkeys(_DIVERGENCE, "divergence"),
    **dict.fromkeys(_STANDSTILL, "standstill"),
    **dict.fromkeys(("entropy_collapse", "explained_variance", "adversary"), "policy"),
}
"""Rules whose findings feed each other: growth, its hiding, its overflow, its skipped updates; and
those of a training that runs and learns nothing."""

GROWS = frozenset({"grad_explosion", "loss_explosion", "loss_growth", "joint_rise", "q_growth",
                   "weight_growth", "logit_growth", "attention_growth"})  # fmt: skip
"""Rules on growth: they need finite values, so what they find later did survive the NaN."""

AFTER_NAN = frozenset({"nonfinite", "skip_streak", "masked_nan"}) | GROWS
"""Rules that still say something new once a value is not finite."""

FORENSICS_BEFORE_STEPS = 50
"""Forensics may name a step this far before the onset: the SDK sees more than the rules do."""


def family(rule: str) -> str:
    """The trouble a rule speaks of; a rule nobody placed stands alone."""
    return FAMILIES.get(rule, rule)


def key(finding: Finding) -> Key:
    """What a finding is about. Layers fold together: the worst are named in the finding."""
    return finding.rule, finding.scope, finding.kind, finding.rank


def firing(findings: Iterable[Finding]) -> set[Key]:
    """Keys that fired and were not cleared since, from an incident's stored findings."""
    up: set[Key] = set()
    for finding in findings:
        (up.discard if finding.cleared else up.add)(key(finding))
    return up


def is_consequence(finding: Finding, earlier: Sequence[Finding]) -> bool:
    """True if it began after a non-finite value that poisoned the weights: NaN explains it."""
    return finding.rule not in AFTER_NAN and any(
        known.rule == "nonfinite"
        and known.severity == Severity.CRITICAL
        and known.step <= finding.onset_step
        for known in earlier
    )


def explains(step: int, incident: Incident) -> bool:
    """True if forensics of this step tell where the trouble of the incident came from."""
    if not any(family(finding.rule) == "divergence" for finding in incident.findings):
        return False
    end = incident.resolved_step
    return step >= incident.onset_step - FORENSICS_BEFORE_STEPS and (end is None or step <= end)


def stored(findings: Sequence[Finding], new: Finding) -> tuple[Finding, ...]:
    """What an incident keeps: per key the first finding of each severity and the newest.

    Of a key that was cleared and fires again only the newest turn stays, so the tuple is bounded.
    """
    if not new.cleared:
        same = [f for f in findings if key(f) == key(new) and f.severity == new.severity]
        if len(same) > 1 and not same[-1].cleared:
            findings = [f for f in findings if f is not same[-1]]
        settled = {key(f) for f in findings if f.cleared}
        if key(new) in settled:
            return (*(f for f in findings if key(f) != key(new)), new)
    return (*findings, new)
