"""Runs every rule over the blocks of one run. Called by the pipeline, one instance per run."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanwatch_server.detect.block import Block
from nanwatch_server.detect.context import Context, Rule
from nanwatch_server.detect.ranks import Ranks
from nanwatch_server.detect.registry import RULES, limits
from nanwatch_server.domain.models import Finding

VERSION = 1
"""Of the saved state. Another version starts afresh: windows refill within minutes."""

OF_NORMS = tuple(kind for kind in RULES if "grad_norm" in (*kind.reads, *kind.any_of))
"""Rules that also read norms which come after the rest of their attempts."""

RESTARTS = frozenset({"fit", "task", "resume"})
"""Marks after which windows begin anew."""


class RunDetector:
    """Rules and their state for one run."""

    def __init__(
        self,
        run_id: str,
        facts: dict[str, str],
        thresholds: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.context = Context(run_id, dict(facts), limits(thresholds))
        self.ranks = Ranks(self.context)
        self._rules: dict[tuple[str, str], Rule] = {}
        self._seen: dict[str, set[str]] = {}
        """Kinds each scope has sent."""
        self._records: dict[tuple[str, str], int] = {}

    def update(self, block: Block) -> list[Finding]:
        """Findings of these attempts, oldest first. Only training is judged."""
        if block.stage != "train" or not len(block):
            return []
        if block.late:
            block = self.ranks.completed(block)
        else:
            self.ranks.keep(block)
        self._seen.setdefault(block.scope, set()).update(block.scalars, block.layers)
        found: list[Finding] = []
        with np.errstate(all="ignore"):
            self.context.reward_limits = self.context.rewards.read(block)
            for kind in RULES:
                if kind.wants(block) and (not block.late or kind in OF_NORMS):
                    found += self._rule(kind, block.scope).update(block)
                    key = (kind.name, block.scope)
                    self._records[key] = self._records.get(key, 0) + len(block)
        found.sort(key=lambda finding: finding.step)
        self.ranks.heard(found)
        return found

    def _rule(self, kind: type[Rule], scope: str) -> Rule:
        key = (kind.name, scope)
        if key not in self._rules:
            self._rules[key] = kind(self.context, scope)
        return self._rules[key]

    def mark(self, what: str, step: int, data: dict[str, str]) -> list[Finding]:
        """A fact that rules consume in order with the points, and what it shows by itself."""
        if what == "config":
            self.context.facts.update(data)
        elif what in RESTARTS:
            for rule in self._rules.values():
                rule.restart()
        return []

    def quiet_until(self, time: float) -> list[Finding]:
        """Nothing came until `time` (client wall clock, seconds): what the silence shows."""
        return []

    def coverage(self) -> list[dict[str, Any]]:
        """Which rules ran, which could not, and why; one entry per rule and scope."""
        entries: list[dict[str, Any]] = []
        for scope, seen in sorted(self._seen.items()) or [("", set[str]())]:
            for kind in RULES:
                records = self._records.get((kind.name, scope), 0)
                why = "" if records else kind.missing(seen) or "its kinds never came together"
                entries.append(
                    {
                        "rule": kind.name,
                        "scope": scope,
                        "ran": records > 0,
                        "records": records,
                        "why": why,
                    }
                )
        return entries

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart, as plain values msgspec can write."""
        return {
            "version": VERSION,
            "facts": dict(self.context.facts),
            "rewards": self.context.rewards.dump(),
            "seen": {scope: sorted(kinds) for scope, kinds in self._seen.items()},
            "records": [[*key, count] for key, count in self._records.items()],
            "rules": [[*key, rule.dump()] for key, rule in self._rules.items()],
            "ranks": self.ranks.dump(),
        }

    @classmethod
    def restore(
        cls,
        run_id: str,
        facts: dict[str, str],
        state: dict[str, Any],
        thresholds: dict[str, dict[str, Any]] | None = None,
    ) -> RunDetector:
        """A detector that goes on where `state()` was taken; a fresh one if versions differ."""
        detector = cls(run_id, facts, thresholds)
        if state.get("version") != VERSION:
            return detector
        detector.context.facts.update(state["facts"])
        detector.context.rewards.load(state["rewards"])
        detector._seen = {scope: set(kinds) for scope, kinds in state["seen"].items()}
        detector._records = {(rule, scope): count for rule, scope, count in state["records"]}
        kinds = {kind.name: kind for kind in RULES}
        for name, scope, data in state["rules"]:
            detector._rule(kinds[name], scope).load(data)
        if "ranks" in state:
            detector.ranks.load(state["ranks"])
        return detector
