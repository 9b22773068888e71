"""From request headers to a `Principal`: bearer tokens and session cookies, looked up in the store.

Answers are remembered for two seconds, so that a page full of requests costs one lookup and a
revoked token is out at once here and within two seconds on another server.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from nanwatch_server.domain.models import Principal
from nanwatch_server.domain.ports import Store

_log = structlog.get_logger(__name__)

COOKIE = "nanwatch_session"
SESSION_IDLE_S = 12 * 3600.0
SESSION_MAX_S = 7 * 86400.0
_TOUCH_EVERY_S = 300.0
_REMEMBER_S = 2.0
_REMEMBER_MAX = 1024
_FAIL_WINDOW_S = 60.0
_FAIL_MAX = 60


def digest(secret: str) -> str:
    """What is stored of a token, session or login code."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Presented:
    """A secret as it came with a request. Its text never leaves this object."""

    kind: str
    """`token` or `session`."""
    sha256: str


def presented(headers: dict[str, str]) -> Presented | None:
    """The credential in the headers. A bearer token, also a broken one, wins over a cookie."""
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        return Presented("token", digest(secret.strip()) if scheme.lower() == "bearer" else "")
    # Not the standard library's parser: it stops at the first odd cookie, and on localhost every
    # program of the machine leaves its own.
    for pair in headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE and value:
            return Presented("session", digest(value))
    return None


class FailedAttempts:
    """Counts wrong secrets per client address in windows of a minute.

    Tokens are 256 random bits, so this is no defence against guessing: it tells a client that
    keeps sending a dead token to back off (429). A right secret is always let in, because on a
    shared host everybody has the same loopback address.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: int = _FAIL_MAX) -> None:
        self._clock, self._limit = clock, limit
        self._window, self._counts = -1, {}

    def add(self, address: str) -> float | None:
        """Count one failure; seconds to wait if there were too many, else None."""
        now = self._clock()
        window = int(now // _FAIL_WINDOW_S)
        if window != self._window:
            self._window, self._counts = window, {}
        count = self._counts[address] = self._counts.get(address, 0) + 1
        return (window + 1) * _FAIL_WINDOW_S - now if count > self._limit else None


class Credentials:
    """Looks up who a presented secret belongs to."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._known: dict[Presented, tuple[float, Principal]] = {}

    async def principal(self, secret: Presented) -> Principal | None:
        """Who it is, or None if it is unknown, revoked or expired."""
        known = self._known.get(secret)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        found = await asyncio.to_thread(self.lookup, secret)
        if len(self._known) >= _REMEMBER_MAX:
            self._known.clear()
        self._known.pop(secret, None)
        if found is not None:
            self._known[secret] = (time.monotonic() + _REMEMBER_S, found)
        return found

    def forget(self) -> None:
        """Ask the store again for everybody: something was revoked or someone logged in or out."""
        self._known.clear()

    def lookup(self, secret: Presented) -> Principal | None:
        """The same, blocking and not remembered."""
        if secret.kind == "token":
            return _token_principal(self._store.token(secret.sha256), secret.sha256)
        return self._session_principal(self._store.session(secret.sha256), secret.sha256)

    def _session_principal(self, row: dict[str, Any] | None, sha256: str) -> Principal | None:
        if row is None or not secrets.compare_digest(str(row["sha256"]), sha256):
            return None
        now = self._clock()
        if now >= row["expires_at"] or now - row["last_seen_at"] >= SESSION_IDLE_S:
            return None
        if now - row["last_seen_at"] > _TOUCH_EVERY_S:
            try:
                with self._store.write() as uow:
                    uow.put_session({**row, "last_seen_at": now})
            except Exception:
                # A full disk must not lock people out of looking at their runs.
                _log.exception("the last use of a session could not be written")
        return Principal(actor=row["actor"], role=row["role"], via="session")


def _token_principal(row: dict[str, Any] | None, sha256: str) -> Principal | None:
    if row is None or row.get("revoked_at") is not None:
        return None
    if not secrets.compare_digest(str(row["sha256"]), sha256):
        return None
    return Principal(
        actor=f"token:{row['prefix']}", role=row["role"], via="token", project=row["project"]
    )
