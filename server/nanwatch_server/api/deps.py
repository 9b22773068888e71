"""What routes are given: the parts that `app` put on the application, and who is asking.

`app.state` holds: store, desk, credentials, failures, clock (server seconds), version.
They are `async` because FastAPI sends each plain function to a thread and back, which took about a
third of the time of a chart. Also how a route says no. Errors before a route are the gate's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import JSONResponse

from nanwatch_server.auth.credentials import Credentials, FailedAttempts
from nanwatch_server.auth.gate import principal_of
from nanwatch_server.control.policy import Refused
from nanwatch_server.control.queue import Desk
from nanwatch_server.domain.models import Principal
from nanwatch_server.domain.ports import Store

_STATUS = {
    "invalid": 422,
    "forbidden": 403,
    "not_found": 404,
    "not_connected": 409,
    "conflict": 409,
    "stale": 409,
}


async def _store(request: Request) -> Store:
    return request.app.state.store


async def _desk(request: Request) -> Desk:
    return request.app.state.desk


async def _credentials(request: Request) -> Credentials:
    return request.app.state.credentials


async def _failures(request: Request) -> FailedAttempts:
    return request.app.state.failures


async def _clock(request: Request) -> Callable[[], float]:
    return request.app.state.clock


async def _version(request: Request) -> str:
    return request.app.state.version


async def _principal(request: Request) -> Principal:
    return principal_of(request.scope)


StoreDep = Annotated[Store, Depends(_store)]
DeskDep = Annotated[Desk, Depends(_desk)]
CredentialsDep = Annotated[Credentials, Depends(_credentials)]
FailuresDep = Annotated[FailedAttempts, Depends(_failures)]
ClockDep = Annotated[Callable[[], float], Depends(_clock)]
"""Server wall clock, seconds since 1970."""
VersionDep = Annotated[str, Depends(_version)]
PrincipalDep = Annotated[Principal, Depends(_principal)]


def problem(status: int, code: str, message: str, **more: int) -> JSONResponse:
    """The protocol's error answer; `more` says where it is wrong."""
    return JSONResponse({"error": {"code": code, "message": message, **more}}, status)


def refused(refusal: Refused) -> JSONResponse:
    """The answer to a command that is not taken."""
    return problem(_STATUS[refusal.code], refusal.code, str(refusal))
