"""What several ranks mean to the rules: whose numbers went bad first, norms that come late.

Rank 0 speaks for the run. Of the other ranks only values that are not finite are heard, and only
as far as they are earlier news; so the findings of a run with a thousand ranks are still few.
Pure; the detector of a run holds one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nanwatch_server.detect.alarm import CLEAR
from nanwatch_server.detect.block import F64, I64, Block
from nanwatch_server.detect.context import TITLE_MAX, Context
from nanwatch_server.detect.rules.nonfinite import WATCHED, NonFinite
from nanwatch_server.domain.models import Evidence, Finding, Severity

AT_ONCE_MOST = 3
"""Ranks besides the first that are named when several went bad at the same point."""

KEPT_ROWS = 4096
"""Attempts of rank 0 that wait for their norms."""

BESIDE = ("loss", "clip_threshold", "update_applied", "skip_reason")
"""What the rules want to see beside a norm."""

Place = tuple[int, int]
"""(step, part of the step): the forward pass is 0, what comes of it 1."""


def place_of(finding: Finding) -> Place:
    """Where the trouble of a finding begins."""
    return finding.onset_step, 1 if finding.kind in ("grad_norm", "param_norm") else 0


class Ranks:
    """State of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rules: dict[tuple[int, str], NonFinite] = {}
        """By (rank, scope), from a rank's first bad value on."""
        self._first: Place | None = None
        self._beside = 0
        self._told: set[tuple[int, str, str]] = set()
        self._waiting: dict[str, tuple[I64, dict[str, F64]]] = {}
        """By scope: steps of rank 0 and what came with them."""

    # --- whose numbers went bad first ------------------------------------------------------------

    def heard(self, findings: Sequence[Finding]) -> None:
        """Findings of rank 0."""
        for finding in findings:
            if finding.rule == NonFinite.name and not finding.cleared:
                self._is_news(place_of(finding))

    def listens(self, rank: int, tables: Sequence[Any]) -> bool:
        """False if a rank's tables (with `values`) say nothing that `other` would look at."""
        return any(known == rank for known, _ in self._rules) or any(
            not np.isfinite(table.values).all() for table in tables
        )

    def other(self, rank: int, block: Block) -> list[Finding]:
        """Findings from the points of another rank: those that are earlier than what is known."""
        if block.stage != "train" or not len(block):
            return []
        scalars = dict(block.scalars)
        if (part := scalars.get("grad_norm_shard")) is not None:
            scalars["grad_norm"] = part
        key = (rank, block.scope)
        rule = self._rules.get(key)
        if rule is None:
            if all(np.isfinite(scalars[kind]).all() for kind in WATCHED if kind in scalars):
                return []
            rule = self._rules[key] = NonFinite(self._context, block.scope)
            rule.attempts = max(int(block.steps[0]) - 1, 0)
        with np.errstate(all="ignore"):
            self._context.reward_limits = np.empty(0)
            found = rule.update(replace(block, scalars=scalars))
        return [_of_rank(finding, rank) for finding in found if self._passes(finding, rank)]

    def _passes(self, finding: Finding, rank: int) -> bool:
        about = (rank, finding.scope, finding.kind)
        if finding.cleared:
            known = about in self._told
            self._told.discard(about)
            return known
        if finding.severity < Severity.WARNING or about in self._told:
            return False
        if not self._is_news(place_of(finding)):
            return False
        self._told.add(about)
        return True

    def _is_news(self, place: Place) -> bool:
        """True for the earliest so far, for a few at the same point, and for a new trouble."""
        first = self._first
        if first is None or place < first or place[0] > first[0] + CLEAR:
            self._first, self._beside = place, 0
            return True
        if place == first and self._beside < AT_ONCE_MOST:
            self._beside += 1
            return True
        return False

    # --- norms that come late --------------------------------------------------------------------

    def keep(self, block: Block) -> None:
        """Attempts of rank 0 whose gradient norm waits for the other ranks."""
        if "grad_norm_shard" not in block.scalars:
            return
        came = {kind: block.scalars[kind] for kind in BESIDE if kind in block.scalars}
        steps = block.steps
        if (known := self._waiting.get(block.scope)) is not None and known[1].keys() == came.keys():
            old = slice(max(len(known[0]) - KEPT_ROWS, 0), None)
            steps = np.concatenate([known[0][old], steps])
            came = {kind: np.concatenate([known[1][kind][old], came[kind]]) for kind in came}
        self._waiting[block.scope] = (steps, came)

    def completed(self, block: Block) -> Block:
        """Norms of the whole run, with what rank 0 said of the same attempts."""
        late = replace(block, late=True)
        known = self._waiting.get(block.scope)
        if known is None:
            return late
        steps, came = known
        # The newest of equal steps: after a restart from a checkpoint they come again.
        newest = len(steps) - 1 - np.unique(steps[::-1], return_index=True)[1]
        at = np.searchsorted(steps[newest], block.steps)
        if (at >= len(newest)).any() or (steps[newest][at] != block.steps).any():
            return late
        rows = newest[at]
        beside = {kind: values[rows] for kind, values in came.items()}
        return replace(late, scalars={**beside, **block.scalars})

    # --- over a restart --------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Everything needed to go on, as plain values."""
        return {
            "rules": [[*key, rule.dump()] for key, rule in self._rules.items()],
            "first": list(self._first) if self._first is not None else None,
            "beside": self._beside,
            "told": [list(about) for about in self._told],
            "waiting": [
                [scope, steps.tobytes(), {kind: v.tobytes() for kind, v in came.items()}]
                for scope, (steps, came) in self._waiting.items()
            ],
        }

    def load(self, data: dict[str, Any]) -> None:
        """Take over what `dump` gave."""
        for rank, scope, state in data["rules"]:
            rule = self._rules[rank, scope] = NonFinite(self._context, scope)
            rule.load(state)
        self._first = tuple(data["first"]) if data["first"] is not None else None
        self._beside = data["beside"]
        self._told = {(rank, scope, kind) for rank, scope, kind in data["told"]}
        self._waiting = {
            scope: (
                np.frombuffer(steps, np.int64),
                {kind: np.frombuffer(values) for kind, values in came.items()},
            )
            for scope, steps, came in data["waiting"]
        }


def _of_rank(finding: Finding, rank: int) -> Finding:
    evidence = Evidence(label="Rank", value=str(rank), kind=finding.kind, scope=finding.scope)
    return replace(
        finding,
        rank=rank,
        title=f"Rank {rank}: {finding.title}"[:TITLE_MAX],
        message=f"On rank {rank}: {finding.message}",
        evidence=(*finding.evidence, evidence),
    )
