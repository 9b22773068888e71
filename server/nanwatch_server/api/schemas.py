"""Models to the JSON of `docs/protocol.md`. Metrics become text here and only here."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from nanwatch.contract.commands import ControlOffer, allowed_kinds
from nanwatch.contract.frames import CheckpointSaved, Forensics, Mark, NonFinite, Problem
from nanwatch_server.domain.models import (
    Checkpoint,
    Coverage,
    Evidence,
    Finding,
    Incident,
    Run,
    RunMark,
    Series,
    run_status,
)
from nanwatch_server.live.presence import Presence


def number_text(value: float | None) -> str | None:
    """A metric as text: the shortest that reads back as the same number."""
    if value is None:
        return None
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def texts(value: Any) -> Any:
    """The same structure with every float as text."""
    if isinstance(value, float):
        return number_text(value)
    if isinstance(value, dict):
        return {str(key): texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [texts(item) for item in value]
    return value


def offer_of(run: Run) -> ControlOffer | None:
    """What the run lets people do."""
    return None if run.control is None else msgspec.convert(run.control, ControlOffer, strict=False)


def run_summary(
    run: Run, presence: Presence, incidents: list[Incident], now: float
) -> dict[str, Any]:
    """RunSummary; `incidents` are the open ones of the run, newest first."""
    worst = max(incidents, key=lambda one: (one.severity, one.opened_at), default=None)
    seen = max(run.last_seen_at, presence.last_seen_at)
    status = run_status(
        run,
        now=now,
        connected=presence.connections > 0,
        last_step_at=presence.last_step_at or run.last_seen_at,
    )
    return {
        "id": run.id,
        "project": run.project,
        "name": run.name,
        "status": status.value,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "last_seen_at": seen,
        "last_step": max(run.last_step, presence.last_step),
        "ended_at": run.ended_at,
        "end_reason": run.end_reason,
        "exit_code": run.exit_code,
        "severity": None if worst is None else worst.severity.word,
        "incident": None if worst is None else incident_brief(worst),
        "controls": allowed_kinds(offer_of(run)) if run.ended_at is None else [],
    }


def run_detail(
    run: Run,
    presence: Presence,
    incidents: list[Incident],
    now: float,
    *,
    series: list[Series],
    main_scope: str,
    ranks: list[dict[str, Any]],
) -> dict[str, Any]:
    """RunDetail."""
    beat = {
        "queued": presence.queued,
        "dropped": presence.dropped,
        "overhead": number_text(presence.overhead),
    }
    return run_summary(run, presence, incidents, now) | {
        "config": run.config,
        "facts": run.facts,
        "control": texts(run.control),
        "series": [series_json(one) for one in series],
        "beat": beat,
        "main_scope": main_scope,
        "ranks": ranks,
        "coverage": coverage_json(run.coverage),
    }


def coverage_json(coverage: Coverage | None) -> dict[str, Any] | None:
    """What the run measures; None if it has not said."""
    if coverage is None:
        return None
    return {"step": coverage.step, "at": coverage.at, "what": coverage.what}


def series_json(series: Series) -> dict[str, Any]:
    """Series."""
    names = ("id", "rank", "stage", "scope", "kind", "layer")
    return {name: getattr(series, name) for name in names}


def incident_brief(incident: Incident) -> dict[str, Any]:
    """Incident brief."""
    return {
        "id": incident.id,
        "title": incident.diagnosis.title,
        "severity": incident.severity.word,
        "state": incident.state.value,
        "onset_step": incident.onset_step,
        "syndrome": incident.diagnosis.syndrome,
    }


def incident_json(
    incident: Incident, run_name: str, forensics: list[dict[str, Any]]
) -> dict[str, Any]:
    """Incident, with the forensics that belong to it."""
    cause = incident.diagnosis
    until = incident.snoozed_until
    evidence = {
        (one.label, one.kind, one.scope, one.layer): one
        for finding in incident.findings
        for one in finding.evidence
    }
    return incident_brief(incident) | {
        "run_id": incident.run_id,
        "run_name": run_name,
        "what": cause.what,
        "why": cause.why,
        "confidence": round(cause.confidence, 3),
        "fired_step": incident.fired_step,
        "last_step": incident.last_step,
        "opened_at": incident.opened_at,
        "updated_at": incident.updated_at,
        "resolved_step": incident.resolved_step,
        "resolved_at": incident.resolved_at,
        "acknowledged_by": incident.acknowledged_by,
        "snoozed_until": -1 if until is not None and math.isinf(until) else until,
        "count": incident.count,
        "reopened": incident.reopened,
        "forecast": cause.forecast,
        "evidence_for": list(cause.evidence_for),
        "evidence_against": list(cause.evidence_against),
        "evidence": [evidence_json(one) for one in evidence.values()],
        "findings": [finding_json(finding) for finding in incident.findings],
        "forensics": forensics,
        "suggestions": [
            {
                "text": one.text,
                "treats": one.treats,
                "command": one.command,
                "args": one.args,
                "copy": one.copy,
            }
            for one in cause.suggestions
        ],
    }


def evidence_json(one: Evidence) -> dict[str, str]:
    """One observed number or fact; its value is text already."""
    names = ("label", "value", "limit", "kind", "scope", "layer")
    return {name: getattr(one, name) for name in names}


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding inside an incident."""
    names = ("rule", "rank", "step", "onset_step", "time", "title", "message", "scope", "kind")
    names += ("layer",)
    return {name: getattr(finding, name) for name in names} | {"severity": finding.severity.word}


def checkpoint_json(saved: Checkpoint) -> dict[str, Any]:
    """Checkpoint."""
    names = ("step", "at", "path", "bytes", "sha256", "grade", "command_id")
    return {name: getattr(saved, name) for name in names}


def mark_json(mark: RunMark) -> dict[str, Any]:
    """Mark."""
    return {name: getattr(mark, name) for name in ("what", "step", "at", "text", "data")}


Report = NonFinite | Forensics | Problem
REPORTS: dict[str, type[Report]] = {
    "nonfinite": NonFinite,
    "forensics": Forensics,
    "problem": Problem,
}
"""Name of a report in the store and in a live `event` → what its bytes hold."""

_SHOWN: dict[type[Report], tuple[str, ...]] = {
    NonFinite: ("step", "where", "scope", "nan", "inf", "total", "layers"),
    Forensics: tuple(name for name in Forensics.__struct_fields__ if name != "time"),
    Problem: ("kind", "count", "text"),
}


def report_json(record: Report, rank: int, at: float) -> dict[str, Any]:
    """A non-finite report, forensics or a problem of the SDK."""
    return {"rank": rank, "at": at} | {name: getattr(record, name) for name in _SHOWN[type(record)]}


def stored_report(row: dict[str, Any]) -> dict[str, Any]:
    """The same from a row of the store."""
    record = msgspec.msgpack.decode(row["data"], type=REPORTS[row["what"]])
    return report_json(record, row["rank"], row["at"])


def event_json(record: Mark | CheckpointSaved | Report, rank: int, at: float) -> dict[str, Any]:
    """What a live `event` frame says of a record: one key, as in the answer of `/events`."""
    if isinstance(record, Mark):
        mark = {"what": record.what, "step": record.step, "at": at}
        return {"mark": mark | {"text": record.text, "data": record.data}}
    if isinstance(record, CheckpointSaved):
        names = ("step", "path", "bytes", "sha256", "command_id")
        saved = {name: getattr(record, name) for name in names}
        return {"checkpoint": saved | {"at": at, "grade": "unverified"}}
    [key] = [name for name, kind in REPORTS.items() if kind is type(record)]
    return {key: report_json(record, rank, at)}
