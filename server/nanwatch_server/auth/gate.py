"""The gate: pure ASGI around the whole app, for HTTP and WebSocket, closed unless a rule opens it.

It checks Host, Origin, path, method, credential and role before routing and before a WebSocket is
accepted, and hands the `Principal` on in the scope. What a role may do inside a route is not here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from nanwatch_server.auth.credentials import Credentials, FailedAttempts, Presented, presented
from nanwatch_server.auth.origin import KnownHosts
from nanwatch_server.auth.rules import Body, Rule, UndeclaredRole, collect, find, is_clean, requires
from nanwatch_server.domain.models import Principal, role_covers

__all__ = ["Gate", "UndeclaredRole", "origin_of", "principal_of", "requires"]

_log = structlog.get_logger(__name__)

_PAGE_BODY = Body(frozenset({"application/json"}), bytes_max=64 << 10, timeout_s=10.0)
SWEEP_S = 2.0
"""How often open sockets are checked for a revoked or expired credential."""

_READS = frozenset({"GET", "HEAD"})
_ONCE = ("host", "origin", "authorization", "content-type")


@dataclass
class Refusal(Exception):
    """An answer instead of the app."""

    status: int
    code: str
    message: str
    headers: tuple[tuple[str, str], ...] = ()


def principal_of(scope: Any) -> Principal:
    """Who is asking, in a route that is not public."""
    return scope["nanwatch.principal"]


def origin_of(scope: Any) -> str:
    """The server's own origin as the asker's browser sees it, also behind a proxy that does TLS."""
    return scope["nanwatch.origin"]


class Gate:
    """ASGI app around `app`. Give it to the server instead of the app itself."""

    def __init__(
        self,
        app: Any,
        credentials: Credentials,
        *,
        allowed_hosts: Iterable[str] = (),
        failures: FailedAttempts | None = None,
    ) -> None:
        """Raises `UndeclaredRole` if a route of `app` says no role."""
        self.app = app
        self.rules = collect(app.routes)
        self._credentials = credentials
        self._hosts = KnownHosts(allowed_hosts)
        self._failures = failures or FailedAttempts()
        self._open: dict[_Guarded, Presented] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Let the request through or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"expected http, websocket or lifespan, got {scope['type']!r}")
        try:
            own = self._check_host(scope, headers := _headers(scope))
            rule, secret, principal = await self._admit(scope, headers, own)
            if scope["type"] == "http" and scope["method"] not in _READS:
                receive = await _limited_body(receive, rule.body or _PAGE_BODY)
        except Refusal as refusal:
            await _answer(scope, receive, send, refusal)
            return
        state = {**scope.get("state", {}), "principal": principal}
        inner = {**scope, "state": state, "nanwatch.principal": principal, "nanwatch.rule": rule}
        inner["nanwatch.origin"] = own
        if scope["type"] == "websocket" and secret is not None:
            await self._guarded(inner, receive, send, secret)
        else:
            await self.app(inner, receive, send)

    async def _admit(
        self, scope: Any, headers: dict[str, str], own: str
    ) -> tuple[Rule, Presented | None, Principal | None]:
        path = scope["path"]
        if scope.get("root_path") or not is_clean(path, scope.get("raw_path") or path.encode()):
            raise Refusal(400, "bad_path", "expected a plain path without escapes or dot segments")
        origin = headers.get("origin")
        if origin is not None and origin != own:
            raise Refusal(403, "bad_origin", f"expected Origin {own}, got {origin[:200]!r}")
        rule = self._rule(scope)
        if rule.role != "public":
            _check_fetch_site(headers)
        writes = scope["type"] == "http" and scope["method"] not in _READS
        if writes and rule.body is None:
            _check_write(headers, _PAGE_BODY)
        if rule.role == "public":
            return rule, None, None
        secret = presented(headers)
        if rule.body is not None and secret is not None and secret.kind != "token":
            message = "expected an Authorization: Bearer token, got a session"
            raise Refusal(403, "token_only", message)
        principal = await self._authenticated(scope, secret)
        if not role_covers(principal.role, rule.role):
            raise Refusal(
                403, "forbidden", f"expected role {rule.role}, this is role {principal.role}"
            )
        if writes and rule.body is not None:
            _check_write(headers, rule.body)
        if scope["type"] == "websocket" and principal.via == "session" and origin is None:
            raise Refusal(403, "bad_origin", f"expected Origin {own} with a session, got none")
        return rule, secret, principal

    def _check_host(self, scope: Any, headers: dict[str, str]) -> str:
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        port = (scope.get("server") or (None, None))[1]
        host = headers.get("host", "")
        own = self._hosts.own_origin(host, scheme, port)
        if own is None:
            raise Refusal(
                403,
                "bad_host",
                f"expected Host to be one of {self._hosts.expected(scheme, port)}, got "
                f"{host[:200]!r}; another name is added with --allowed-host",
            )
        return own

    def _rule(self, scope: Any) -> Rule:
        found = find(self.rules, scope["type"], scope.get("method", ""), scope["path"])
        if isinstance(found, Rule):
            return found
        if found:
            allow = ", ".join(sorted(found))
            message = f"expected method {allow} here, got {scope['method'][:20]!r}"
            raise Refusal(405, "method_not_allowed", message, (("allow", allow),))
        raise Refusal(404, "not_found", "there is nothing at this path")

    async def _authenticated(self, scope: Any, secret: Presented | None) -> Principal:
        if secret is None:
            raise Refusal(
                401,
                "unauthenticated",
                "expected a session (open the login link) or an Authorization: Bearer token, "
                "got neither",
                (("www-authenticate", "Bearer"),),
            )
        principal = await self._credentials.principal(secret)
        if principal is not None:
            return principal
        wait = self._failures.add((scope.get("client") or ("",))[0])
        if wait is not None:
            raise Refusal(
                429,
                "too_many",
                f"too many wrong credentials from this address: wait {wait:.0f} s",
                (("retry-after", str(max(1, round(wait)))),),
            )
        raise Refusal(
            401,
            "unauthenticated",
            f"expected a valid {secret.kind}, got one that is unknown, revoked or expired",
            (("www-authenticate", "Bearer"),),
        )

    async def _guarded(self, scope: Any, receive: Any, send: Any, secret: Presented) -> None:
        socket = _Guarded(send)
        self._open[socket] = secret
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep())
        try:
            await self.app(scope, receive, socket.send)
        finally:
            self._open.pop(socket, None)

    async def _sweep(self) -> None:
        """Close the sockets whose credential is no longer good; ends with the last socket."""
        while self._open:
            await asyncio.sleep(SWEEP_S)
            for secret in set(self._open.values()):
                try:
                    good = await self._credentials.principal(secret) is not None
                except Exception:
                    _log.exception("open sockets could not be checked; trying again")
                    break
                if not good:
                    for socket in [s for s, held in self._open.items() if held == secret]:
                        await socket.drop()


class _Guarded:
    """A WebSocket's sending end that the gate can shut."""

    def __init__(self, send: Any) -> None:
        self._send, self._shut = send, False

    async def send(self, message: Any) -> None:
        """Hand on; nothing after the gate has shut it."""
        if not self._shut:
            self._shut = message["type"] == "websocket.close"
            await self._send(message)

    async def drop(self) -> None:
        """Close with 4401."""
        await self.send({"type": "websocket.close", "code": 4401, "reason": "revoked"})


def _headers(scope: Any) -> dict[str, str]:
    """Headers by lower-case name. Security ones may come once only; Cookie may be split."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        if name in found and name in _ONCE:
            raise Refusal(400, "bad_header", f"expected one {name} header, got several")
        joint = "; " if name == "cookie" else ", "
        found[name] = found[name] + joint + value if name in found else value
    return found


def _check_fetch_site(headers: dict[str, str]) -> None:
    site = headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        message = f"expected a request of the server's own page, got Sec-Fetch-Site {site[:40]!r}"
        raise Refusal(403, "bad_origin", message)


def _check_write(headers: dict[str, str], body: Body) -> None:
    _check_fetch_site(headers)
    kind = headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() not in body.types:
        types = " or ".join(sorted(body.types))
        raise Refusal(415, "bad_content_type", f"expected Content-Type {types}, got {kind[:80]!r}")
    if body is _PAGE_BODY and headers.get("x-nanwatch") != "1":
        raise Refusal(403, "missing_header", "expected the header X-Nanwatch: 1 on a write")


async def _limited_body(receive: Any, allowed: Body) -> Any:
    """Read the whole body, at most `bytes_max`, and give it to the app in one piece."""
    body = bytearray()
    try:
        async with asyncio.timeout(allowed.timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "disconnected", "the body ended early")
                body += message.get("body", b"")
                if len(body) > allowed.bytes_max:
                    limit = f"expected at most {allowed.bytes_max} bytes of body, got more"
                    raise Refusal(413, "too_large", limit, (("connection", "close"),))
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        late = f"expected the body within {allowed.timeout_s:.0f} s"
        raise Refusal(408, "timeout", late, (("connection", "close"),)) from None
    first: dict[str, Any] | None = {"type": "http.request", "body": bytes(body)}

    async def replay() -> Any:
        nonlocal first
        message, first = first, None
        return message if message is not None else await receive()

    return replay


async def _answer(scope: Any, receive: Any, send: Any, refusal: Refusal) -> None:
    """Say why. A WebSocket gets an HTTP answer instead of an accept where that is possible."""
    prefix = ""
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 4400 + refusal.status % 100})
            return
        prefix = "websocket."
    body = json.dumps({"error": {"code": refusal.code, "message": refusal.message}}).encode()
    fixed = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **dict(refusal.headers),
    }
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in fixed.items()]
    start = f"{prefix}http.response.start"
    await send({"type": start, "status": refusal.status, "headers": raw})
    await send({"type": f"{prefix}http.response.body", "body": body})
