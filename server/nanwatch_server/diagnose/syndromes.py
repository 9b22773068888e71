"""Names the cause of a group of findings and what to try. Called by the incident book."""

from __future__ import annotations

from collections.abc import Sequence

from nanwatch_server.domain.models import Diagnosis, Finding


def diagnose(findings: Sequence[Finding], facts: dict[str, str]) -> Diagnosis:
    """The likeliest syndrome behind `findings` (oldest first, at least one)."""
    worst = max(findings, key=lambda finding: finding.severity)
    return Diagnosis(
        syndrome=worst.rule, title=worst.title, what=worst.message, why="", confidence=0.5
    )
