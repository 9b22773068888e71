"""A trace through the real rules and the real incident book, as the pipeline does it. Pure.

The scorecard and tests call it; what the rules find is compared with `labels` there.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import Finding, Incident, Severity
from nanwatch_server.incidents.lifecycle import IncidentBook
from nanwatch_server.pipeline.blocks import Plan, blocks_of
from scenarios.corpus.traces import Trace, run_id_of


@dataclass(frozen=True, slots=True)
class Judged:
    """What was said of a run."""

    findings: list[Finding]
    incidents: list[Incident]
    """As they stood at the end of the run, oldest first."""
    failures: list[str]
    """Tracebacks of rules that failed. The pipeline logs them and goes on, and so does this."""

    @property
    def warned_at(self) -> int | None:
        """Attempt of the first finding of warning or worse."""
        steps = [f.step for f in self.findings if f.severity >= Severity.WARNING and not f.cleared]
        return min(steps, default=None)

    @property
    def worst(self) -> Incident | None:
        """The worst incident, the earlier of equals."""
        return min(self.incidents, key=lambda i: (-i.severity, i.fired_step), default=None)


def judge(trace: Trace, thresholds: dict[str, dict[str, Any]] | None = None) -> Judged:
    """Every finding and incident of a run, `thresholds` on top of the packaged ones."""
    run_id = run_id_of(trace.name, trace.seed)
    detector = RunDetector(run_id, trace.facts, thresholds)
    book = IncidentBook(run_id, dict(trace.facts), diagnose=diagnose)
    plans: dict[tuple[int, ...], list[Plan]] = {}
    findings: list[Finding] = []
    incidents: dict[str, Incident] = {}
    failures: list[str] = []
    step, time = -1, 0.0
    for item in trace.replay():
        found: list[Finding] = []
        if item[0] == "mark":
            found = detector.mark(*item[1:])
        else:
            blocks = blocks_of(plans, item[1])
            try:
                found = detector.feed(blocks)
            except Exception:
                failures.append(traceback.format_exc())
            for block in blocks:
                step, time = max(step, int(block.steps[-1])), float(block.times[-1])
        findings += found
        incidents.update({one.id: one for one in book.fold(found, step, time)})
    return Judged(findings, sorted(incidents.values(), key=lambda one: one.fired_step), failures)
