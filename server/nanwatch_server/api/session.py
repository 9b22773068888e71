"""Routes of the browser session: log in with a one-time code, say who is asking, log out."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from nanwatch_server.api.deps import (
    ClockDep,
    CredentialsDep,
    FailuresDep,
    PrincipalDep,
    StoreDep,
    VersionDep,
    problem,
)
from nanwatch_server.auth import sessions
from nanwatch_server.auth.credentials import presented
from nanwatch_server.auth.gate import origin_of, requires

router = APIRouter()


class LoginBody(BaseModel):
    """The code out of the login link."""

    model_config = ConfigDict(strict=True, extra="forbid")

    code: str = Field(max_length=200)


@router.post("/api/login")
@requires("public")
def login(
    body: LoginBody, request: Request, store: StoreDep, failures: FailuresDep, clock: ClockDep
) -> Response:
    """A session for the code, once."""
    session = sessions.login(store, body.code, clock())
    if session is None:
        wait = failures.add(request.client.host if request.client else "")
        if wait is not None:
            return problem(429, "too_many", f"too many wrong codes: wait {wait:.0f} s")
        expected = "expected a login code that is unused and younger than 10 minutes"
        return problem(401, "unauthenticated", f"{expected}: get a new link with `nanwatch login`")
    answer = JSONResponse({"role": session.role, "actor": session.actor})
    secure = origin_of(request.scope).startswith("https:")
    answer.headers["set-cookie"] = sessions.cookie(session.secret, secure=secure)
    return answer


class LoginCodeBody(BaseModel):
    """Whom the link is for."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Literal["view", "respond", "control", "admin"] = "admin"


@router.post("/api/login-codes", status_code=201)
@requires("admin")
def new_link(
    body: LoginCodeBody, request: Request, store: StoreDep, who: PrincipalDep, clock: ClockDep
) -> dict[str, str]:
    """A link that signs one browser in, once, within ten minutes."""
    code = sessions.new_login_code(store, body.role, clock(), by=who)
    return {"login_url": sessions.login_url(origin_of(request.scope), code)}


@router.post("/api/logout")
@requires("view")
def logout(
    request: Request,
    store: StoreDep,
    credentials: CredentialsDep,
    who: PrincipalDep,
    clock: ClockDep,
) -> Response:
    """End the session, here and in the browser."""
    secret = presented(dict(request.headers))
    if secret is not None:
        sessions.logout(store, secret, who, clock())
    credentials.forget()
    cookie = sessions.cookie("", secure=origin_of(request.scope).startswith("https:"))
    return JSONResponse({}, headers={"set-cookie": cookie})


@router.get("/api/session")
@requires("view")
def session(who: PrincipalDep, version: VersionDep) -> dict[str, str]:
    """Who is asking, and the server's version."""
    return {"actor": who.actor, "role": who.role, "version": version}
