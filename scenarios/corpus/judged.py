"""A trace through the real rules and the real incident book: the back-test's trial. Pure.

The scorecard and tests call it; what the rules say is compared with `labels` there.
"""

from __future__ import annotations

from typing import Any

from nanwatch.contract.frames import Mark
from nanwatch_server.backtest.trial import Trial, Verdict
from nanwatch_server.domain.models import Incident, Severity
from scenarios.corpus.traces import Trace, run_id_of


def judge(trace: Trace, thresholds: dict[str, dict[str, Any]] | None = None) -> Verdict:
    """Every finding and incident of a run, `thresholds` on top of the packaged ones."""
    trial = Trial(dict(trace.facts), thresholds, run_id_of(trace.name, trace.seed))
    for part in trace.parts:
        if isinstance(part, Mark):
            trial.mark(part)
        else:
            trial.window([part])
    return trial.verdict()


def warned_at(verdict: Verdict) -> int | None:
    """Attempt of the first finding of warning or worse."""
    steps = [one.step for one in verdict.findings if one.severity >= Severity.WARNING]
    return min(steps, default=None)


def worst(verdict: Verdict) -> Incident | None:
    """The worst incident, the earlier of equals."""
    return min(verdict.incidents, key=lambda one: (-one.severity, one.fired_step), default=None)
