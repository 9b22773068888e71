"""Routes of bearer tokens, for admins."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from nanwatch_server.api.deps import ClockDep, CredentialsDep, PrincipalDep, StoreDep, problem
from nanwatch_server.auth import tokens
from nanwatch_server.auth.gate import requires

router = APIRouter()


class TokenBody(BaseModel):
    """What the token is for."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: str
    project: str = ""
    note: str = ""


@router.post("/api/tokens")
@requires("admin")
def create(body: TokenBody, store: StoreDep, who: PrincipalDep, clock: ClockDep) -> Response:
    """201 with the text of the token, shown this once."""
    try:
        made = tokens.create_token(store, body.role, body.project, body.note, clock(), by=who)
    except tokens.TokenError as error:
        return problem(422, "invalid", str(error))
    return JSONResponse(made, 201)


@router.get("/api/tokens")
@requires("admin")
def all_tokens(store: StoreDep) -> dict[str, Any]:
    """Without secrets and without their hashes."""
    return {"tokens": tokens.list_tokens(store)}


@router.delete("/api/tokens/{token_id}")
@requires("admin")
def revoke(
    token_id: str, store: StoreDep, credentials: CredentialsDep, who: PrincipalDep, clock: ClockDep
) -> Response:
    """Revoke; the gate closes the sockets that were opened with it."""
    try:
        row = tokens.revoke_token(store, token_id, clock(), by=who)
    except tokens.TokenError as error:
        return problem(404, "not_found", str(error))
    credentials.forget()
    return JSONResponse({"id": row["id"], "revoked_at": row["revoked_at"]})
