"""The server's nouns as frozen data: runs, series, findings, incidents, commands, checkpoints.

No behaviour beyond small derived facts; who stores, detects or shows them lives elsewhere.
Times are seconds since 1970 by the server's clock unless said otherwise, steps are attempt numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Any, Literal

__all__ = ["replace"]

Role = Literal["ingest", "view", "respond", "control", "admin"]
ROLES: tuple[Role, ...] = ("ingest", "view", "respond", "control", "admin")
_RANK: dict[str, int] = {"ingest": 0, "view": 1, "respond": 2, "control": 3, "admin": 4}


def role_covers(held: str, needed: str) -> bool:
    """True if someone with role `held` may do what needs `needed`. `ingest` covers only itself."""
    if needed == "ingest" or held == "ingest":
        return held == needed or (held == "admin" and needed == "ingest")
    return _RANK.get(held, -1) >= _RANK[needed]


class Severity(IntEnum):
    """How urgent: know, act soon, act now."""

    NOTICE = 1
    WARNING = 2
    CRITICAL = 3

    @property
    def word(self) -> str:
        """Lower-case word used in APIs and on the page."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking: a token or a browser session."""

    actor: str
    """Name shown in the audit, for example `browser:3f9a` or `token:ci`."""
    role: Role
    via: Literal["session", "token", "system"]
    project: str = ""
    """Non-empty: an ingest token that may write to this project only."""


DERIVED_EPOCH = -1
"""Process that stands for the server's own points of a run; no client can have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One process lifetime of one rank: what sequence numbers belong to."""

    run_id: str
    rank: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankState:
    """What is known of one rank of a training with several."""

    run_id: str
    rank: int
    world: int
    """Processes of the training when it last connected."""
    host: str
    last_seen_at: float
    last_step: int
    ended_at: float | None = None
    bad_step: int | None = None
    """First step with a value that was not finite, as the rank itself reported."""
    bad_at: float | None = None
    """Client wall clock of that step."""
    bad_where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a run measures and how often, or why not, as it said last."""

    step: int
    at: float
    what: dict[str, str]
    """Name of a measurement → `every attempt`, `every 8`, or why it is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training."""

    id: str
    """32 hexadecimal digits, made by the client."""
    project: str
    name: str
    created_at: float
    started_at: float
    config: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    control: dict[str, Any] | None = None
    """The contract's `ControlOffer` as plain data; None for a read-only run."""
    last_seen_at: float = 0.0
    last_step: int = -1
    ended_at: float | None = None
    end_reason: str = ""
    exit_code: int | None = None
    coverage: Coverage | None = None


class RunStatus(StrEnum):
    """What is known of the process. Never 'crashed' without an exit report."""

    LIVE = "live"
    STALLED = "stalled"
    """Heartbeats come, steps do not."""
    LOST = "lost"
    """No heartbeat: may still be training."""
    ENDED = "ended"


LOST_AFTER_S = 20.0
STALLED_AFTER_S = 60.0


def run_status(run: Run, *, now: float, connected: bool, last_step_at: float) -> RunStatus:
    """Status of a run at time `now` (server clock, seconds)."""
    if run.ended_at is not None:
        return RunStatus.ENDED
    if not connected and now - run.last_seen_at > LOST_AFTER_S:
        return RunStatus.LOST
    if run.last_step >= 0 and now - max(last_step_at, run.started_at) > STALLED_AFTER_S:
        return RunStatus.STALLED
    return RunStatus.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One named line of points."""

    id: int
    run_id: str
    rank: int
    stage: str
    scope: str
    kind: str
    layer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One observed number or fact behind a finding, frozen when it fired.

    `value` is text (`"41.2"`, `"NaN"`, `"97 %"`), so that no non-finite number meets JSON.
    """

    label: str
    value: str
    limit: str = ""
    kind: str = ""
    scope: str = ""
    layer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule's observation at one step."""

    run_id: str
    rule: str
    severity: Severity
    step: int
    """Step at which the rule fired."""
    onset_step: int
    """First step at which the trouble shows."""
    time: float
    """Client wall clock of `step`."""
    title: str
    """Symptom and number, at most 80 characters, without the run's name."""
    message: str
    scope: str = ""
    kind: str = ""
    layer: str = ""
    evidence: tuple[Evidence, ...] = ()
    doubling_steps: float | None = None
    cleared: bool = False
    """True for the observation that the condition no longer holds."""
    rank: int = 0

    @property
    def id(self) -> str:
        """Deterministic, so that a replay inserts nothing twice."""
        end = f":rank{self.rank}" if self.rank else ""
        end += ":cleared" if self.cleared else ""
        return (
            f"{self.run_id}:{self.rule}:{self.scope}:{self.kind}:{self.layer}"
            f":{self.step}:{int(self.severity)}{end}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """Something to try."""

    text: str
    treats: Literal["cause", "symptom"]
    """`cause`: treats the cause; `symptom`: only masks it."""
    command: str = ""
    """Command kind if a button can do it, else empty."""
    args: dict[str, Any] = field(default_factory=dict)
    copy: str = ""
    """Text to copy (a flag, a line of configuration), else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A named cause for a group of findings."""

    syndrome: str
    title: str
    what: str
    why: str
    """Why we think so and why it matters, two or three sentences."""
    confidence: float
    """0 to 1."""
    evidence_for: tuple[str, ...] = ()
    evidence_against: tuple[str, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    forecast: str = ""


class IncidentState(StrEnum):
    """Life of an incident."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Findings of one trouble."""

    id: str
    run_id: str
    state: IncidentState
    severity: Severity
    diagnosis: Diagnosis
    onset_step: int
    fired_step: int
    last_step: int
    opened_at: float
    updated_at: float
    count: int
    """Findings folded into it."""
    findings: tuple[Finding, ...] = ()
    """The first finding of every rule and scope and each rise in severity, in order."""
    resolved_step: int | None = None
    resolved_at: float | None = None
    acknowledged_by: str = ""
    snoozed_until: float | None = None
    """Server time; `inf` means until it gets worse."""
    reopened: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One change of a command's state."""

    state: str
    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something a person or policy asks of a run."""

    id: str
    run_id: str
    kind: str
    args: dict[str, Any]
    state: str
    actor: str
    role: str
    reason: str
    created_at: float
    expires_at: float
    """Server clock; the client counts down what is left of it."""
    key: str
    """Idempotency key; unique."""
    incident_id: str = ""
    transitions: tuple[Transition, ...] = ()
    applied_step: int | None = None
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    factor: float | None = None
    message: str = ""
    epoch: int = -1
    """The process it is for; nothing survives a restart of the training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A file on the training machine, as reported by the run."""

    run_id: str
    step: int
    at: float
    path: str
    bytes: int
    sha256: str
    grade: Literal["healthy", "unverified", "suspect", "bad"] = "unverified"
    command_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRules:
    """What a project changes of the packaged limits of the rules."""

    project: str
    text: str = ""
    """TOML, as docs/rules.md describes it."""
    updated_at: float = 0.0
    updated_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMark:
    """A mark on the time axis of a run."""

    run_id: str
    what: str
    step: int
    at: float
    text: str = ""
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """One stored batch: every row decodes with the wire contract and holds only valid records."""

    id: int
    """Grows with commit order."""
    stream: Stream
    lane: str
    first: int
    last: int
    at: float
    frame: bytes
