"""The nouns of notifications as frozen data: channels, routes, quiet hours, deliveries.

`notify` decides and sends, `store` keeps, `api` shows; nothing here does anything. Times are server
seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nanwatch_server.domain.models import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One place that messages go to."""

    id: str
    name: str
    """What people call it; unique."""
    url: str
    """An address with its secrets, as apprise reads it, or `https://…` of a webhook."""
    shown: str
    """The same without secrets."""
    service: str
    """`Slack`, `E-Mail`, `Signed webhook`…"""
    created_at: float
    secret: str = ""
    """Key of a signed webhook (`whsec_…`); empty for every other service."""
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """A part of the day, by the clock on a wall in `zone`."""

    start: str
    """`HH:MM`; the first minute that is quiet."""
    end: str
    """`HH:MM`; the first minute that is not. Before `start`: over midnight."""
    zone: str
    """Name in the IANA time zone database, for example `Europe/Berlin`."""
    critical_passes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which incidents go to a channel."""

    id: str
    channel_id: str
    created_at: float
    project: str = ""
    """Empty: every project."""
    min_severity: Severity = Severity.WARNING
    resolved: bool = False
    """Also say when it is over."""
    quiet: QuietHours | None = None
    enabled: bool = True


DeliveryState = Literal["waiting", "sent", "merged", "skipped", "failed"]
"""`merged`: told in the message of another delivery; `skipped`: not wanted any more; `failed`:
given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One thing to say to one channel: a row of the outbox, and afterwards of the log."""

    key: str
    """Deterministic: the same news gives the same key, so that a receiver can drop a repetition."""
    channel_id: str
    run_id: str
    incident_id: str
    what: Literal["firing", "resolved"]
    severity: Severity
    created_at: float
    due_at: float
    """Not before this time: quiet hours, the cap per run, the next try."""
    expires_at: float
    quiet: bool = False
    """It waits, or waited, for the end of quiet hours."""
    state: DeliveryState = "waiting"
    tries: int = 0
    done_at: float | None = None
    detail: str = ""
    """Why it is not sent yet, or what became of it. Without secrets."""
    n: int = 0
    """Number of the row; 0 before it is stored."""
