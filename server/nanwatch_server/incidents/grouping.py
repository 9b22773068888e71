"""Which findings belong to one trouble. Pure; used by the incident book."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanwatch_server.domain.models import Finding, Severity

Key = tuple[str, str, str]

FAMILIES = {
    "nonfinite": "divergence",
    "skip_streak": "divergence",
    "clip_saturation": "divergence",
    "grad_explosion": "divergence",
    "q_growth": "divergence",
    "loss_divergence": "divergence",
}
"""Rules whose findings feed each other: growth, its hiding, its overflow, its skipped updates."""

AFTER_NAN = frozenset({"nonfinite", "skip_streak"})
"""Rules that still say something new once a value is not finite."""


def family(rule: str) -> str:
    """The trouble a rule speaks of; a rule nobody placed stands alone."""
    return FAMILIES.get(rule, rule)


def key(finding: Finding) -> Key:
    """What a finding is about. Layers fold together: the worst are named in the finding."""
    return finding.rule, finding.scope, finding.kind


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


def keeps(finding: Finding, findings: Sequence[Finding]) -> bool:
    """True if an incident stores it: the first of its key, or a rise since the last all-clear."""
    worst = 0
    for known in findings:
        if key(known) == key(finding):
            worst = 0 if known.cleared else max(worst, int(known.severity))
    return finding.severity > worst


def without_old_clears(findings: Sequence[Finding], new: Finding) -> tuple[Finding, ...]:
    """Stored findings with `new` at the end; of a key that flaps only the newest turn stays."""
    if not new.cleared:
        settled = {key(f) for f in findings if f.cleared}
        if key(new) in settled:
            return (*(f for f in findings if key(f) != key(new)), new)
    return (*findings, new)
