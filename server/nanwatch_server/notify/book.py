"""What people do to channels and routes: make, change, delete, test. Every change is audited.

Called by `api/notifications`. Addresses are judged here, with a courier's help; what they hold is
never given back.
"""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import time as wall_time
from typing import Any
from zoneinfo import ZoneInfo

from nanwatch.contract.limits import is_name
from nanwatch_server.domain.models import Principal, Severity
from nanwatch_server.domain.notify import Channel, QuietHours, Route
from nanwatch_server.domain.ports import Store, UnitOfWork
from nanwatch_server.notify import services
from nanwatch_server.notify.channels import Couriers, Outcome
from nanwatch_server.notify.message import Link, sample
from nanwatch_server.notify.outbox import Outbox

NAME_CHARS_MAX = 60
CHANNELS_MAX, ROUTES_MAX = 50, 200


class NotifyError(ValueError):
    """Something cannot be so; the text says what was expected and what came."""


class UnknownError(LookupError):
    """There is no such channel or route."""


class Book:
    """Channels and routes. Thread-safe; changes reach the outbox at once."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        couriers: Couriers,
        link: Link,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._outbox, self._couriers = store, outbox, couriers
        self._link, self._clock = link, clock

    @property
    def allow_local(self) -> bool:
        """True if messages may go to this machine and to private networks."""
        return self._couriers.allow_local

    def channel(self, channel_id: str) -> Channel:
        """Raises `UnknownError`."""
        found = next((one for one in self._store.channels() if one.id == channel_id), None)
        if found is None:
            raise UnknownError(f"there is no channel {channel_id[:64]!r}")
        return found

    def route(self, route_id: str) -> Route:
        """Raises `UnknownError`."""
        found = next((one for one in self._store.routes() if one.id == route_id), None)
        if found is None:
            raise UnknownError(f"there is no route {route_id[:64]!r}")
        return found

    # --- channels -----------------------------------------------------------------------------

    def add_channel(
        self, name: str, url: str, min_severity: Severity | None, *, by: Principal
    ) -> Channel:
        """A channel, and a route of every project to it from `min_severity` on (None: no route).

        Raises `NotifyError`. The key of a signed webhook is in what is returned, and nowhere else
        afterwards.
        """
        if len(self._store.channels()) >= CHANNELS_MAX:
            raise NotifyError(f"there are {CHANNELS_MAX} channels already: delete one first")
        now = self._clock()
        service, shown = self._address(url)
        channel = Channel(
            id=uuid.uuid4().hex,
            name=self._name(name, ""),
            url=url,
            shown=shown,
            service=service,
            created_at=now,
            secret=_new_key() if service == services.WEBHOOK else "",
        )
        with self._store.write() as uow:
            uow.put_channel(channel)
            self._audit(uow, by, "channel.create", channel.id, _of(channel))
            if min_severity is not None:
                route = Route(
                    id=uuid.uuid4().hex,
                    channel_id=channel.id,
                    created_at=now,
                    min_severity=min_severity,
                )
                uow.put_route(route)
                self._audit(uow, by, "route.create", route.id, _of_route(route, channel))
        self._outbox.reload()
        return channel

    def change_channel(
        self,
        channel_id: str,
        *,
        name: str | None = None,
        url: str | None = None,
        enabled: bool | None = None,
        by: Principal,
    ) -> Channel:
        """What is None stays. Raises `NotifyError`, `UnknownError`."""
        known = self.channel(channel_id)
        changed = known
        if name is not None:
            changed = replace(changed, name=self._name(name, channel_id))
        if enabled is not None:
            changed = replace(changed, enabled=enabled)
        if url is not None:
            service, shown = self._address(url)
            key = (known.secret or _new_key()) if service == services.WEBHOOK else ""
            changed = replace(changed, url=url, service=service, shown=shown, secret=key)
        if changed != known:
            with self._store.write() as uow:
                uow.put_channel(changed)
                detail = _of(changed) | {"address_changed": changed.url != known.url}
                self._audit(uow, by, "channel.change", channel_id, detail)
            self._outbox.reload()
        return changed

    def delete_channel(self, channel_id: str, *, by: Principal) -> None:
        """With its routes; what waits for it is not sent. Raises `UnknownError`."""
        known = self.channel(channel_id)
        with self._store.write() as uow:
            uow.delete_channel(channel_id, self._clock())
            self._audit(uow, by, "channel.delete", channel_id, _of(known))
        self._outbox.reload()

    def test(self, channel_id: str, *, by: Principal) -> Outcome:
        """Send a sample now and wait for what becomes of it. Raises `UnknownError`."""
        channel = self.channel(channel_id)
        now = self._clock()
        message = sample(self._link, now)
        outcome = self._couriers.send(channel, f"test|{uuid.uuid4().hex}", message)
        with self._store.write() as uow:
            detail = _of(channel) | {"ok": outcome.ok, "error": outcome.error}
            self._audit(uow, by, "channel.test", channel_id, detail)
        return outcome

    def _address(self, url: str) -> tuple[str, str]:
        said = services.url_trouble(url)
        found = None if said else self._couriers.check(url)
        if found is None or found.error:
            raise NotifyError(said if found is None else found.error)
        return found.service, found.shown

    def _name(self, name: str, own_id: str) -> str:
        name = name.strip()
        if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
            raise NotifyError(f"expected a name of 1 to {NAME_CHARS_MAX} visible characters")
        if any(one.name == name and one.id != own_id for one in self._store.channels()):
            raise NotifyError(f"there is a channel {name!r} already: choose another name")
        return name

    # --- routes -------------------------------------------------------------------------------

    def put_route(
        self,
        route_id: str | None,
        channel_id: str,
        project: str,
        min_severity: Severity,
        *,
        resolved: bool,
        quiet: QuietHours | None,
        enabled: bool,
        by: Principal,
    ) -> Route:
        """A new route (`route_id=None`), or a known one anew.

        Raises `NotifyError`, `UnknownError`.
        """
        channel = self.channel(channel_id)
        known = None if route_id is None else self.route(route_id)
        if known is None and len(self._store.routes()) >= ROUTES_MAX:
            raise NotifyError(f"there are {ROUTES_MAX} routes already: delete one first")
        if project and not is_name(project):
            raise NotifyError(
                f"expected the name of a project (letters, digits and _./:@-), got {project[:64]!r}"
            )
        if quiet is not None:
            check_quiet(quiet)
        route = Route(
            id=uuid.uuid4().hex if known is None else known.id,
            channel_id=channel_id,
            created_at=self._clock() if known is None else known.created_at,
            project=project,
            min_severity=min_severity,
            resolved=resolved,
            quiet=quiet,
            enabled=enabled,
        )
        with self._store.write() as uow:
            uow.put_route(route)
            what = "route.create" if known is None else "route.change"
            self._audit(uow, by, what, route.id, _of_route(route, channel))
        self._outbox.reload()
        return route

    def delete_route(self, route_id: str, *, by: Principal) -> None:
        """Raises `UnknownError`."""
        known = self.route(route_id)
        with self._store.write() as uow:
            uow.delete_route(route_id)
            channel = self.channel(known.channel_id)
            self._audit(uow, by, "route.delete", route_id, _of_route(known, channel))
        self._outbox.reload()

    def _audit(
        self, uow: UnitOfWork, by: Principal, what: str, target: str, detail: dict[str, Any]
    ) -> None:
        uow.audit(
            at=self._clock(),
            actor=by.actor,
            role=by.role,
            via=by.via,
            action=f"notify.{what}",
            target=target,
            detail=detail,
        )


def check_quiet(quiet: QuietHours) -> None:
    """Raises `NotifyError` with what was expected."""
    for given in (quiet.start, quiet.end):
        try:
            right = wall_time.fromisoformat(given).strftime("%H:%M") == given
        except ValueError:
            right = False
        if not right:
            raise NotifyError(f"expected a time of the day as HH:MM, got {given[:20]!r}")
    if quiet.start == quiet.end:
        raise NotifyError("expected quiet hours that begin and end at different times")
    try:
        ZoneInfo(quiet.zone)
    except (LookupError, OSError, ValueError):
        raise NotifyError(
            f"expected a time zone like Europe/Berlin or UTC, got {quiet.zone[:64]!r}"
        ) from None


def _new_key() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _of(channel: Channel) -> dict[str, Any]:
    """For the audit: without secrets."""
    return {
        "name": channel.name,
        "service": channel.service,
        "address": channel.shown,
        "enabled": channel.enabled,
    }


def _of_route(route: Route, channel: Channel) -> dict[str, Any]:
    quiet = route.quiet
    hours = "" if quiet is None else f"{quiet.start} to {quiet.end} {quiet.zone}"
    return {
        "channel": channel.name,
        "project": route.project,
        "min_severity": route.min_severity.word,
        "resolved": route.resolved,
        "quiet_hours": hours,
        "critical_passes": quiet is None or quiet.critical_passes,
        "enabled": route.enabled,
    }
