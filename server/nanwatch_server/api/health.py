"""The one route that says something to everybody: alive."""

from __future__ import annotations

from fastapi import APIRouter

from nanwatch_server.auth.gate import requires

router = APIRouter()


@router.get("/healthz")
@requires("public")
async def healthz() -> dict[str, bool]:
    """The event loop turns."""
    return {"ok": True}
