"""Which channels an incident goes to, and not before when. Pure: time is a parameter.

Called by `outbox`, in the transaction of the incident. Not here: the cap per run and retries
(`worker`), what the message says (`message`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from nanwatch_server.domain.models import Incident, IncidentState, Severity
from nanwatch_server.domain.notify import Delivery, QuietHours, Route

SETTLE_S = 1.0
"""A warning waits so long: what turns critical at once is then told in one message."""

AGAIN_S = 900.0
"""Trouble that comes back without being worse is told again after so long at the earliest."""

GIVE_UP_S = 86_400.0
"""A message that cannot be delivered is tried for so long."""


def deliveries(
    incident: Incident, project: str, routes: Iterable[Route], now: float
) -> list[Delivery]:
    """What is to be said of an incident as it is now, one for each channel.

    An incident that someone has acknowledged or snoozed says nothing. The same state of the same
    incident gives the same keys.
    """
    due: dict[str, float] = {}
    for route in routes:
        if _wants(route, incident, project):
            at = _not_before(route, incident.severity, now)
            due[route.channel_id] = min(at, due.get(route.channel_id, at))
    over = incident.state is IncidentState.RESOLVED
    settle = 0.0 if over or incident.severity is Severity.CRITICAL else SETTLE_S
    word = "resolved" if over else incident.severity.word
    return [
        Delivery(
            key=f"{incident.id}|{word}|{incident.reopened}|{channel_id}",
            channel_id=channel_id,
            run_id=incident.run_id,
            incident_id=incident.id,
            what="resolved" if over else "firing",
            severity=incident.severity,
            created_at=now,
            due_at=max(at, now + settle),
            expires_at=max(at, now) + GIVE_UP_S,
            quiet=at > now,
            detail="quiet hours" if at > now else "",
        )
        for channel_id, at in due.items()
    ]


def is_news(fresh: Delivery, earlier: Sequence[Delivery]) -> float | None:
    """None if it is to be said now; else until when it is not, given what was said before.

    A rise in severity always is. Trouble that comes and goes is told at most every `AGAIN_S`, and
    that it is over only to a channel that was told of it.
    """
    alike = [one for one in earlier if one.what == fresh.what]
    fired = [one.severity for one in earlier if one.what == "firing" and one.state != "skipped"]
    if fresh.what == "firing" and fresh.severity > max(fired, default=0):
        return None
    if fresh.what == "resolved" and not fired:
        return fresh.created_at + AGAIN_S
    last = max((one.created_at for one in alike), default=-AGAIN_S)
    return None if fresh.created_at - last >= AGAIN_S else last + AGAIN_S


def _wants(route: Route, incident: Incident, project: str) -> bool:
    if not route.enabled or incident.severity < route.min_severity:
        return False
    if route.project not in ("", project):
        return False
    if incident.state is IncidentState.RESOLVED:
        return route.resolved
    return incident.state is IncidentState.FIRING


def _not_before(route: Route, severity: Severity, now: float) -> float:
    quiet = route.quiet
    if quiet is None or (quiet.critical_passes and severity is Severity.CRITICAL):
        return now
    try:
        until = quiet_until(quiet, now)
    except (LookupError, OSError, ValueError):  # a time zone that this machine does not have
        return now
    return now if until is None else until


# --- quiet hours --------------------------------------------------------------------------------


def quiet_until(quiet: QuietHours, now: float) -> float | None:
    """When the quiet hours that hold at `now` end; None if none do.

    By the clock on the wall, so that a night of 23 or 25 hours ends when that clock says so.
    """
    zone = ZoneInfo(quiet.zone)
    start, end = time.fromisoformat(quiet.start), time.fromisoformat(quiet.end)
    if not _is_quiet(now, zone, start, end):
        return None
    local = datetime.fromtimestamp(now, zone)
    day = local.date() if local.time() < end else local.date() + timedelta(days=1)
    ends = [at for at in _moments(datetime.combine(day, end), zone) if at > now]
    last = min((at for at in ends if not _is_quiet(at, zone, start, end)), default=None)
    if last is None:
        return now + 3600.0  # no clock on earth skips so much
    # Where clocks are put forward over the end it is over when they are, not when that hour would
    # have been.
    first = now
    while last - first > 0.5:
        middle = (first + last) / 2
        if _is_quiet(middle, zone, start, end):
            first = middle
        else:
            last = middle
    return float(round(last))


def _moments(wall: datetime, zone: ZoneInfo) -> Iterator[float]:
    """When that clock shows this time: twice where clocks are put back."""
    for fold in (0, 1):
        yield wall.replace(tzinfo=zone, fold=fold).timestamp()


def _is_quiet(at: float, zone: ZoneInfo, start: time, end: time) -> bool:
    wall = datetime.fromtimestamp(at, zone).time()
    return start <= wall < end if start < end else wall >= start or wall < end
