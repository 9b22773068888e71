"""Routes of notifications: channels, who is told what, the test button, the delivery log.

Addresses of channels go in and never come out: only what is shown of them does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from nanwatch_server.api.deps import PrincipalDep, StoreDep, problem
from nanwatch_server.auth.gate import requires
from nanwatch_server.domain.models import Severity
from nanwatch_server.domain.notify import Channel, Delivery, QuietHours, Route
from nanwatch_server.domain.ports import Store
from nanwatch_server.notify.book import Book, NotifyError, UnknownError

router = APIRouter()

_ID_MAX = 2**63 - 1
_SEVERITIES = {"warning": Severity.WARNING, "critical": Severity.CRITICAL}
SeverityWord = Literal["warning", "critical"]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ChannelBody(_Body):
    """A new channel. `min_severity`: a route of every project from there on; null: no route."""

    name: str = Field(max_length=200)
    url: str = Field(max_length=4000)
    min_severity: SeverityWord | None = "warning"


class ChannelChange(_Body):
    """What is absent stays."""

    name: str | None = Field(default=None, max_length=200)
    url: str | None = Field(default=None, max_length=4000)
    enabled: bool | None = None


class QuietBody(_Body):
    """A part of the day by the clock of a time zone."""

    start: str = Field(max_length=8)
    end: str = Field(max_length=8)
    zone: str = Field(max_length=64)
    critical_passes: bool = True


class RouteBody(_Body):
    """Which incidents go to a channel."""

    channel_id: str = Field(max_length=64)
    project: str = Field(default="", max_length=300)
    min_severity: SeverityWord = "warning"
    resolved: bool = False
    quiet: QuietBody | None = None
    enabled: bool = True


async def _book(request: Request) -> Book:
    return request.app.state.notify_book


BookDep = Annotated[Book, Depends(_book)]


def _wrong(_: Request, error: Exception) -> JSONResponse:
    return problem(422, "invalid", str(error))


def _unknown(_: Request, error: Exception) -> JSONResponse:
    return problem(404, "not_found", str(error))


def install(app: FastAPI) -> None:
    """Let the app answer what the book raises."""
    app.add_exception_handler(NotifyError, _wrong)
    app.add_exception_handler(UnknownError, _unknown)


@router.get("/api/notifications")
@requires("admin")
def overview(store: StoreDep, book: BookDep) -> Response:
    """Channels and routes, and whether local targets are allowed."""
    return JSONResponse(
        {
            "channels": [_channel(one) for one in store.channels()],
            "routes": [_route(one) for one in store.routes()],
            "allow_local": book.allow_local,
        }
    )


@router.post("/api/notifications/channels")
@requires("admin")
def add_channel(body: ChannelBody, book: BookDep, who: PrincipalDep) -> Response:
    """201; the key of a signed webhook is shown this once."""
    severity = None if body.min_severity is None else _SEVERITIES[body.min_severity]
    made = book.add_channel(body.name, body.url, severity, by=who)
    return JSONResponse(_channel(made) | {"signing_key": made.secret or None}, 201)


@router.put("/api/notifications/channels/{channel}")
@requires("admin")
def change_channel(
    channel: str, body: ChannelChange, book: BookDep, who: PrincipalDep
) -> dict[str, Any]:
    """Another name, another address, on or off."""
    changed = book.change_channel(
        channel, name=body.name, url=body.url, enabled=body.enabled, by=who
    )
    return _channel(changed)


@router.delete("/api/notifications/channels/{channel}")
@requires("admin")
def delete_channel(channel: str, book: BookDep, who: PrincipalDep) -> dict[str, Any]:
    """With its routes."""
    book.delete_channel(channel, by=who)
    return {"id": channel, "deleted": True}


@router.post("/api/notifications/channels/{channel}/test")
@requires("admin")
def test_channel(channel: str, book: BookDep, who: PrincipalDep) -> dict[str, Any]:
    """Send a sample now; answers when it has arrived or failed."""
    done = book.test(channel, by=who)
    return {"ok": done.ok, "error": done.error, "seconds": round(done.took_s, 2)}


@router.post("/api/notifications/routes")
@requires("admin")
def add_route(body: RouteBody, book: BookDep, who: PrincipalDep) -> Response:
    """201."""
    return JSONResponse(_put(None, body, book, who), 201)


@router.put("/api/notifications/routes/{route}")
@requires("admin")
def change_route(route: str, body: RouteBody, book: BookDep, who: PrincipalDep) -> dict[str, Any]:
    """All of it anew."""
    return _put(route, body, book, who)


@router.delete("/api/notifications/routes/{route}")
@requires("admin")
def delete_route(route: str, book: BookDep, who: PrincipalDep) -> dict[str, Any]:
    """From now on nothing goes this way."""
    book.delete_route(route, by=who)
    return {"id": route, "deleted": True}


@router.get("/api/notifications/deliveries")
@requires("view")
def deliveries(
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    run: Annotated[str, Query(max_length=64)] = "",
    channel: Annotated[str, Query(max_length=64)] = "",
    after: Annotated[int, Query(ge=0, le=_ID_MAX)] = 0,
) -> Response:
    """What was or will be sent, newest first, and where the next page begins."""
    found = store.deliveries(run_id=run, channel_id=channel, limit=limit, after=after)
    more = found[-1].n if len(found) == limit else None
    return JSONResponse({"deliveries": _log(found, store), "next": more})


def _put(route_id: str | None, body: RouteBody, book: Book, who: PrincipalDep) -> dict[str, Any]:
    quiet = None if body.quiet is None else QuietHours(**body.quiet.model_dump())
    made = book.put_route(
        route_id,
        body.channel_id,
        body.project,
        _SEVERITIES[body.min_severity],
        resolved=body.resolved,
        quiet=quiet,
        enabled=body.enabled,
        by=who,
    )
    return _route(made)


def _channel(channel: Channel) -> dict[str, Any]:
    names = ("id", "name", "service", "shown", "enabled", "created_at")
    return {name: getattr(channel, name) for name in names} | {"signed": bool(channel.secret)}


def _route(route: Route) -> dict[str, Any]:
    quiet = route.quiet
    names = ("id", "channel_id", "project", "resolved", "enabled", "created_at")
    return {name: getattr(route, name) for name in names} | {
        "min_severity": route.min_severity.word,
        "quiet": None
        if quiet is None
        else {
            "start": quiet.start,
            "end": quiet.end,
            "zone": quiet.zone,
            "critical_passes": quiet.critical_passes,
        },
    }


def _log(found: list[Delivery], store: Store) -> list[dict[str, Any]]:
    names = {one.id: one.name for one in store.channels()}
    incidents = {key: store.incident(key) for key in {one.incident_id for one in found}}
    runs = {key: store.run(key) for key in {one.run_id for one in found}}
    fields = ("n", "key", "channel_id", "run_id", "incident_id", "what", "state", "tries")
    fields += ("created_at", "due_at", "done_at", "detail")
    rows = []
    for one in found:
        incident, run = incidents[one.incident_id], runs[one.run_id]
        rows.append(
            {name: getattr(one, name) for name in fields}
            | {
                "severity": one.severity.word,
                "channel": names.get(one.channel_id, ""),
                "title": "" if incident is None else incident.diagnosis.title,
                "run_name": "" if run is None else run.name,
            }
        )
    return rows
