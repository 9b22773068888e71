"""The incident book of one run and the state changes of an incident. Called by the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanwatch_server.domain.models import Diagnosis, Finding, Incident, IncidentState, replace

Diagnose = Callable[[Sequence[Finding], dict[str, str]], Diagnosis]


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
        return cls(run_id, facts, diagnose=diagnose)

    def fold(self, findings: list[Finding], step: int, now: float) -> list[Incident]:
        """Incidents that changed. Call after every update, also without findings."""
        return []

    def replace(self, incident: Incident) -> None:
        """Take over a change made by a person."""


def acknowledge(incident: Incident, actor: str, now: float) -> Incident:
    """Someone has seen it."""
    return replace(
        incident, state=IncidentState.ACKNOWLEDGED, acknowledged_by=actor, updated_at=now
    )


def snooze(incident: Incident, until: float, now: float) -> Incident:
    """Quiet until server time `until`; `inf` means until it gets worse."""
    return replace(incident, state=IncidentState.SNOOZED, snoozed_until=until, updated_at=now)


def resolve(incident: Incident, step: int, now: float) -> Incident:
    """Over, by rule or by hand."""
    return replace(
        incident,
        state=IncidentState.RESOLVED,
        resolved_step=step,
        resolved_at=now,
        updated_at=now,
    )
