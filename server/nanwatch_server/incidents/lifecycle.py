"""The incident book of one run and the state changes of an incident. Called by the pipeline.

Ids and contents follow from the findings alone, so a replay of the journal creates nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanwatch_server.domain.models import (
    Diagnosis,
    Finding,
    Incident,
    IncidentState,
    Severity,
    replace,
)
from nanwatch_server.incidents import grouping

Diagnose = Callable[[Sequence[Finding], dict[str, str]], Diagnosis]

QUIET_STEPS = 200
"""Steps without a finding before an incident resolves, once its rules are clear."""
REOPEN_STEPS = 1000
"""Trouble that is back within this many steps is the same trouble."""
STALE_STEPS = 20_000
"""Without a word for this long a rule is taken as clear: its state may have been lost."""


class IncidentBook:
    """Open and recent incidents of one run.

    `incidents` and `diagnose` are strangers (import-linter): the caller injects
    `diagnose=nanwatch_server.diagnose.syndromes.diagnose`.
    """

    def __init__(
        self, run_id: str, facts: dict[str, str], *, diagnose: Diagnose | None = None
    ) -> None:
        self.run_id = run_id
        self.facts = facts
        self._diagnose = diagnose or plain
        self._incidents: dict[str, Incident] = {}

    @classmethod
    def restore(
        cls,
        run_id: str,
        facts: dict[str, str],
        incidents: list[Incident],
        *,
        diagnose: Diagnose | None = None,
    ) -> IncidentBook:
        """The book as it was, from the incidents in the store."""
        book = cls(run_id, facts, diagnose=diagnose)
        for incident in sorted(incidents, key=lambda known: known.fired_step):
            book._incidents[incident.id] = incident
        return book

    def fold(self, findings: list[Finding], step: int, now: float) -> list[Incident]:
        """Incidents that changed. Call after every update, also without findings."""
        changed: dict[str, Incident] = {}
        for finding in findings:
            # notices mark the time axis; they neither open nor worsen anything
            if finding.severity >= Severity.WARNING:
                self._fold(finding, now, changed)
        for incident in [known for known in self._incidents.values() if _is_open(known)]:
            if (settled := _settle(incident, step, now)) is not incident:
                self._incidents[settled.id] = changed[settled.id] = settled
        return list(changed.values())

    def replace(self, incident: Incident) -> None:
        """Take over a change made by a person."""
        self._incidents[incident.id] = incident

    def _fold(self, finding: Finding, now: float, changed: dict[str, Incident]) -> None:
        if any(_knows(known, finding) for known in self._incidents.values()):
            return
        incident = self._home(finding) or self._poisoned(finding)
        if incident is None:
            if finding.cleared:
                return
            incident = self._opened(finding, now)
        elif finding.cleared:
            incident = replace(
                incident,
                findings=grouping.stored(incident.findings, finding),
                updated_at=now,
            )
        else:
            incident = self._grown(incident, finding, now)
        self._incidents[incident.id] = changed[incident.id] = incident

    def _home(self, finding: Finding) -> Incident | None:
        """The incident a finding belongs to: the open one, or one that resolved a moment ago."""
        family = grouping.family(finding.rule)
        for incident in reversed(self._incidents.values()):
            if grouping.family(incident.findings[0].rule) != family:
                continue
            if _is_open(incident):
                return incident
            resolved = incident.resolved_step
            recent = resolved is not None and finding.step - resolved <= REOPEN_STEPS
            return incident if recent and not finding.cleared else None
        return None

    def _poisoned(self, finding: Finding) -> Incident | None:
        """The open incident whose NaN explains a finding of another family."""
        for incident in reversed(self._incidents.values()):
            if _is_open(incident) and grouping.is_consequence(finding, incident.findings):
                return incident
        return None

    def _opened(self, finding: Finding, now: float) -> Incident:
        name = f"{self.run_id[:12]}-{finding.onset_step}-{finding.rule}"
        if name in self._incidents:
            name = f"{name}-{finding.step}"
        return Incident(
            id=name,
            run_id=self.run_id,
            state=IncidentState.FIRING,
            severity=finding.severity,
            diagnosis=self._diagnose((finding,), self.facts),
            onset_step=finding.onset_step,
            fired_step=finding.step,
            last_step=finding.step,
            opened_at=now,
            updated_at=now,
            count=1,
            findings=(finding,),
        )

    def _grown(self, incident: Incident, finding: Finding, now: float) -> Incident:
        """One more finding: stored if new or worse, counted in any case."""
        consequence = grouping.is_consequence(finding, incident.findings)
        findings = incident.findings
        if not consequence:
            findings = grouping.stored(findings, finding)
        grown = replace(
            incident,
            last_step=max(incident.last_step, finding.step),
            updated_at=now,
            count=incident.count + 1,
            findings=findings,
        )
        if not consequence:
            grown = replace(
                grown,
                severity=max(incident.severity, finding.severity),
                onset_step=min(incident.onset_step, finding.onset_step),
                diagnosis=self._diagnose([f for f in findings if not f.cleared], self.facts),
            )
        if not _is_open(incident):
            return _reopened(grown)
        if grown.severity > incident.severity:
            # nobody has seen it this bad: acknowledging or snoozing the milder form is over
            return replace(grown, state=IncidentState.FIRING, snoozed_until=None)
        return grown


def _is_open(incident: Incident) -> bool:
    return incident.state != IncidentState.RESOLVED


def _knows(incident: Incident, finding: Finding) -> bool:
    """True if a replayed finding was folded before."""
    if any(known.id == finding.id for known in incident.findings):
        return True
    seen_to = max(incident.last_step, incident.resolved_step or -1)
    about = grouping.key(finding)
    return finding.step <= seen_to and any(
        grouping.key(known) == about
        and known.severity >= finding.severity
        and known.step >= finding.onset_step
        and known.onset_step == finding.onset_step
        for known in incident.findings
    ) and not finding.cleared  # fmt: skip


def _reopened(incident: Incident) -> Incident:
    return replace(
        incident,
        state=IncidentState.FIRING,
        resolved_step=None,
        resolved_at=None,
        acknowledged_by="",
        snoozed_until=None,
        reopened=incident.reopened + 1,
    )


def _settle(incident: Incident, step: int, now: float) -> Incident:
    """Resolve what is over; wake what slept long enough."""
    quiet = step - incident.last_step
    if quiet >= QUIET_STEPS and (quiet >= STALE_STEPS or not grouping.firing(incident.findings)):
        return resolve(incident, step, now)
    until = incident.snoozed_until
    if incident.state == IncidentState.SNOOZED and until is not None and until <= now:
        return replace(incident, state=IncidentState.FIRING, snoozed_until=None, updated_at=now)
    return incident


def acknowledge(incident: Incident, actor: str, now: float) -> Incident:
    """Someone has seen it. A resolved incident stays resolved."""
    if not _is_open(incident):
        return incident
    return replace(
        incident,
        state=IncidentState.ACKNOWLEDGED,
        acknowledged_by=actor,
        snoozed_until=None,
        updated_at=now,
    )


def snooze(incident: Incident, until: float, now: float) -> Incident:
    """Quiet until server time `until`; `inf` means until it gets worse."""
    if not _is_open(incident):
        return incident
    return replace(incident, state=IncidentState.SNOOZED, snoozed_until=until, updated_at=now)


def resolve(incident: Incident, step: int, now: float) -> Incident:
    """Over, by rule or by hand."""
    if not _is_open(incident):
        return incident
    return replace(
        incident,
        state=IncidentState.RESOLVED,
        resolved_step=step,
        resolved_at=now,
        snoozed_until=None,
        updated_at=now,
    )


def plain(findings: Sequence[Finding], facts: dict[str, str]) -> Diagnosis:
    """The worst finding in its own words, for books without a diagnosis injected."""
    worst = max(findings, key=lambda finding: (finding.severity, finding.step))
    return Diagnosis(
        syndrome=worst.rule, title=worst.title, what=worst.message, why="", confidence=0.3
    )
