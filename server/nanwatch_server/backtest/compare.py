"""A run's incidents against those that other limits would give it: the same, new, gone. Pure.

Called by `child`; what comes out is JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nanwatch_server.backtest.stored import Replayed
from nanwatch_server.backtest.trial import TIME_RULES
from nanwatch_server.domain.models import Incident
from nanwatch_server.incidents.grouping import family

SHOWN_MAX = 50
"""Incidents of one run that are told."""

LIVE_ONLY = "a silence is seen while a run is live, not in its points"
DROPPED = "its points were dropped by retention"


def compared(replayed: Replayed, off: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One run as the page shows it; `off`: rules that the limits switch off."""
    run, verdict = replayed.run, replayed.verdict
    fired, alone = replayed.fired, list(replayed.before)
    rows: list[dict[str, Any]] = []
    for incident in fired:
        # One of the run may be two under other limits: over in between.
        old = _match(incident, alone) or _match(incident, replayed.before)
        if old in alone:
            alone.remove(old)
        rows.append(_row(incident, "same" if old else "new", old))
    for incident in alone:
        why = _unseen(incident, replayed, off)
        rows.append(_row(incident, "unknown" if why else "gone", incident) | {"why": why})
    rows.sort(key=lambda row: row["onset_step"])
    return {
        "id": run.id,
        "name": run.name,
        "project": run.project,
        "last_step": max(verdict.last_step, -1),
        "points": verdict.points,
        "dropped": replayed.dropped,
        "failures": list(verdict.failures)[:5],
        "fired": len(fired),
        "incidents": rows[:SHOWN_MAX],
        "more": max(0, len(rows) - SHOWN_MAX),
    }


def _match(incident: Incident, known: Sequence[Incident]) -> Incident | None:
    """The same trouble under other limits: one id, or one family at the same steps."""
    for one in known:
        if one.id == incident.id:
            return one
    about = _family(incident)
    first, last = _reach(incident)
    near = [one for one in known if _family(one) == about]
    return next((one for one in near if _reach(one)[0] <= last and first <= _reach(one)[1]), None)


def _reach(incident: Incident) -> tuple[int, int]:
    """First and last step of its trouble."""
    return incident.onset_step, max(incident.last_step, incident.resolved_step or -1)


def _family(incident: Incident) -> str:
    return family(incident.findings[0].rule)


def _unseen(incident: Incident, replayed: Replayed, off: frozenset[str]) -> str:
    """Why a replay cannot tell whether the incident would have been; empty if it can."""
    rules = {one.rule for one in incident.findings}
    if rules <= TIME_RULES and not rules <= off:
        return LIVE_ONLY
    first = replayed.verdict.first_step
    if replayed.dropped and (first < 0 or incident.fired_step < first):
        return DROPPED
    return ""


def _row(incident: Incident, state: str, old: Incident | None) -> dict[str, Any]:
    return {
        "state": state,
        "id": old.id if old else "",
        "title": incident.diagnosis.title,
        "severity": incident.severity.word,
        "severity_before": old.severity.word if old else "",
        "onset_step": incident.onset_step,
        "fired_step": incident.fired_step,
        "fired_before": old.fired_step if old else None,
        "rules": _names(one.rule for one in incident.findings),
        "why": "",
    }


def _names(rules: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(rules))
