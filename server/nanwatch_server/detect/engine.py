"""Runs every rule over the blocks of one run. Called by the pipeline, one instance per run."""

from __future__ import annotations

from typing import Any

from nanwatch_server.detect.block import Block
from nanwatch_server.domain.models import Finding


class RunDetector:
    """Rules and their state for one run."""

    def __init__(
        self, run_id: str, facts: dict[str, str], thresholds: dict[str, Any] | None = None
    ) -> None:
        self.run_id = run_id
        self.facts = facts

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts, in order."""
        return []

    def mark(self, what: str, step: int, data: dict[str, str]) -> None:
        """A fact that rules consume in order with the points."""

    def coverage(self) -> list[dict[str, Any]]:
        """Which rules ran, which could not, and why."""
        return []

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as plain values msgspec can write."""
        return {}

    @classmethod
    def restore(
        cls,
        run_id: str,
        facts: dict[str, str],
        state: dict[str, Any],
        thresholds: dict[str, Any] | None = None,
    ) -> RunDetector:
        """A detector that goes on where `state()` was taken; a fresh one if versions differ."""
        return cls(run_id, facts, thresholds)
