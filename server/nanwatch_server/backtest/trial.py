"""One run through rules, diagnosis and incidents, without a store, a server or a clock.

The pipeline's order of things: points in blocks per scope, marks between them, findings into
incidents. Findings are folded step by step, so that an incident resolves at its step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanwatch.contract.frames import Mark
from nanwatch_server.backtest.traces import Traces
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.diagnose.config_lint import lint
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import Finding, Incident, IncidentState, Severity
from nanwatch_server.domain.points import Points
from nanwatch_server.incidents.lifecycle import IncidentBook
from nanwatch_server.pipeline.blocks import Plan, blocks_of

TIME_RULES = frozenset({"stall"})
"""Rules that speak of seconds; silent where a log has no times."""

NO_TIMES = "the log has no times"
OFFLINE_ID = "0" * 32


@dataclass(frozen=True)
class Verdict:
    """What the rules made of a run."""

    findings: tuple[Finding, ...]
    """Without the all-clears: an incident tells when it was over."""
    incidents: tuple[Incident, ...]
    """Oldest first."""
    coverage: tuple[dict[str, Any], ...]
    first_step: int
    last_step: int
    points: int
    failures: tuple[str, ...] = ()
    """Errors of ours; the rule concerned was left out from there on."""

    @property
    def worst(self) -> Severity | None:
        """The severest finding; None if there is none."""
        return max((finding.severity for finding in self.findings), default=None)

    def plain(self) -> dict[str, Any]:
        """As `nanwatch check --format json` prints it."""
        return {
            "findings": [
                {
                    "rule": one.rule,
                    "severity": one.severity.word,
                    "step": one.step,
                    "scope": one.scope,
                    "layer": one.layer,
                    "message": one.message,
                }
                for one in self.findings
            ],
            "incidents": [_plain_incident(one) for one in self.incidents],
            "coverage": [dict(one) for one in self.coverage],
        }


def _plain_incident(incident: Incident) -> dict[str, Any]:
    return {
        "syndrome": incident.diagnosis.syndrome,
        "severity": incident.severity.word,
        "onset_step": incident.onset_step,
        "fired_step": incident.fired_step,
        "resolved_step": incident.resolved_step,
        "suggestions": [
            {
                "text": one.text,
                "treats": one.treats,
                "command": one.command,
                "args": dict(one.args),
                "copy": one.copy,
            }
            for one in incident.diagnosis.suggestions
        ],
    }


@dataclass
class Trial:
    """Feed windows and marks in the order of the run, then ask for the `verdict`."""

    facts: dict[str, str]
    thresholds: dict[str, dict[str, Any]] | None = None
    run_id: str = OFFLINE_ID
    clock: bool = True
    """False if times are stand-ins, so that rules of time must not speak."""
    told: Callable[[Incident], None] = lambda incident: None
    """Called when an incident is new or has changed."""
    traces: Traces = field(default_factory=Traces)

    def __post_init__(self) -> None:
        self._detector = RunDetector(self.run_id, self.facts, self.thresholds)
        self._detector.on_failure = self._failed
        self._remarked: set[str] = set()
        # One set of facts: what marks tell later is for the diagnosis too.
        facts = self._detector.context.facts
        self._book = IncidentBook(self.run_id, facts, diagnose=diagnose)
        self._plans: dict[tuple[int, ...], list[Plan]] = {}
        self._findings: dict[str, Finding] = {}
        self._incidents: dict[str, Incident] = {}
        self._failures: dict[str, str] = {}
        self._first, self._last, self._points = -1, -1, 0
        self.time = 0.0
        """Newest time that was seen."""
        if self.facts:
            self._fold(self._remarks(0, 0.0), [])

    def window(self, tables: Sequence[Points]) -> None:
        """Points that belong together: steps of each scope and stage rise within a table."""
        mine: list[Block] = []
        others: list[tuple[int, Block]] = []
        for points in tables:
            self._points += points.values.size
            self.traces.add(points)
            rank = points.series[0].rank
            for block in blocks_of(self._plans, points):
                if rank == 0:
                    mine.append(block)
                else:
                    others.append((rank, block))
        found = self._guarded(lambda: self._detector.feed(mine))
        for rank, block in others:
            found += self._guarded(lambda r=rank, b=block: self._detector.ranks.other(r, b))
        steps = np.unique(np.concatenate([points.steps for points in tables]))
        self.time = max(self.time, *(float(points.times[-1]) for points in tables))
        if self._first < 0:
            self._first = int(steps[0])
        self._fold(found, steps.tolist())

    def mark(self, mark: Mark) -> None:
        """A fact that rules consume in order with the points."""
        told = mark.what, mark.step, mark.data, mark.time, mark.text
        found = self._guarded(lambda: self._detector.mark(*told))
        if mark.what == "config":
            found += self._remarks(mark.step, mark.time)
        self._fold(found, [])

    def quiet_until(self, time: float) -> None:
        """The run was watched until `time` (seconds), and nothing more came."""
        if self.clock:
            self.time = max(self.time, time)
            self._fold(self._guarded(lambda: self._detector.quiet_until(time)), [])

    def verdict(self) -> Verdict:
        """What was found so far."""
        coverage = self._detector.coverage()
        if not self.clock:
            coverage = [
                one | {"ran": False, "why": NO_TIMES} if one["rule"] in TIME_RULES else one
                for one in coverage
            ]
        said = [one for one in self._findings.values() if not one.cleared]
        return Verdict(
            findings=tuple(sorted(said, key=lambda one: one.step)),
            incidents=tuple(sorted(self._incidents.values(), key=lambda one: one.fired_step)),
            coverage=tuple(coverage),
            first_step=self._first,
            last_step=self._last,
            points=self._points,
            failures=tuple(self._failures.values()),
        )

    def _remarks(self, step: int, time: float) -> list[Finding]:
        """What the configuration lets expect, each once."""
        found = lint(self.run_id, self._book.facts, step, time)
        fresh = [one for one in found if one.layer not in self._remarked]
        self._remarked.update(one.layer for one in fresh)
        return fresh

    def _failed(self, rule: str, error: Exception) -> None:
        self._failures.setdefault(rule, f"{rule}: {type(error).__name__}: {error}")

    def _guarded(self, judge: Callable[[], list[Finding]]) -> list[Finding]:
        """A rule that fails takes nothing else with it, as in the pipeline."""
        try:
            return judge()
        except Exception as error:
            self._failed("the rules", error)
            return []

    def _fold(self, found: list[Finding], steps: list[int]) -> None:
        """Findings into incidents, in the order of their steps."""
        fresh = sorted(self._fresh(found), key=lambda one: one.step)
        at = 0
        for step in steps:
            self._last = max(self._last, step)
            upto = at
            while upto < len(fresh) and fresh[upto].step <= step:
                upto += 1
            if upto > at or self._open:
                self._into_book(fresh[at:upto])
            at = upto
        if at < len(fresh):
            self._into_book(fresh[at:])

    def _fresh(self, found: list[Finding]) -> list[Finding]:
        fresh: list[Finding] = []
        for one in found:
            silent = one.rule in TIME_RULES and not self.clock
            if not silent and one.id not in self._findings:
                self._findings[one.id] = one
                fresh.append(one)
        return fresh

    @property
    def _open(self) -> bool:
        return any(one.state != IncidentState.RESOLVED for one in self._incidents.values())

    def _into_book(self, findings: list[Finding]) -> None:
        for incident in self._book.fold(findings, self._last, self.time):
            self._incidents[incident.id] = incident
            self.told(incident)
