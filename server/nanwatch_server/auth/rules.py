"""The table of routes and their roles, read from the app at start-up.

The gate asks it before routing. A route without a declared role is an error here, not a hole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Mount, WebSocketRoute, compile_path

RouteRole = Literal["public", "ingest", "view", "respond", "control", "admin"]
ROUTE_ROLES: tuple[str, ...] = get_args(RouteRole)

_Endpoint = TypeVar("_Endpoint")

_GUARDED = ("api", "ingest", "live")
"""First path segments that a catch-all route (the page) never answers."""

_CLEAN_PATH = re.compile(r"/[A-Za-z0-9_.~@:+\-/]*")


class UndeclaredRole(RuntimeError):
    """A route of the app says no role; raised at start-up."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a route for programs takes instead of the page's JSON.

    Such a route wants a bearer token and takes no session cookie, so that no page can forge a
    request to it, whatever its content type.
    """

    types: frozenset[str]
    """Content types."""
    bytes_max: int
    timeout_s: float


def requires(role: RouteRole, body: Body | None = None) -> Callable[[_Endpoint], _Endpoint]:
    """Declares the role an endpoint (function or mounted app) needs; stands right above it."""
    if role not in ROUTE_ROLES:
        raise ValueError(f"unknown role {role!r}: expected one of {', '.join(ROUTE_ROLES)}")

    def declare(endpoint: _Endpoint) -> _Endpoint:
        setattr(endpoint, "nanwatch_role", role)  # noqa: B010 (a function has no such field)
        setattr(endpoint, "nanwatch_body", body)  # noqa: B010
        return endpoint

    return declare


@dataclass(frozen=True, slots=True)
class Rule:
    """One route: what it matches and the role it needs."""

    kind: Literal["http", "websocket"]
    path: str
    pattern: re.Pattern[str]
    methods: frozenset[str]
    role: str
    body: Body | None = None


def is_clean(path: str, raw_path: bytes) -> bool:
    """True for a path that every part of the server reads alike.

    No route of ours needs an escape, so one in the raw path is refused: `%2f`, `%2e` and double
    encodings cannot mean one thing here and another to the router. So are empty and dotted
    segments and segments that end in a dot or carry parameters (`;`).
    """
    if b"%" in raw_path or not _CLEAN_PATH.fullmatch(path):
        return False
    segments = path.split("/")[1:]
    inner = segments[:-1] if segments[-1] == "" else segments
    return all(part and not part.endswith(".") for part in inner)


def collect(routes: Sequence[BaseRoute]) -> tuple[Rule, ...]:
    """The rules of an app, in the order of its router. Raises `UndeclaredRole`."""
    return tuple(_rules(routes))


def _rules(routes: Sequence[BaseRoute]) -> Iterator[Rule]:
    for context in iter_route_contexts(routes):
        original: Any = context.original_route
        path = context.path
        if path is None:
            raise UndeclaredRole(f"cannot read the path of {original!r}: use plain routes")
        if isinstance(original, Mount):
            yield _rule("http", path + "/{path:path}", original.app, {"GET", "HEAD"})
        elif isinstance(original, WebSocketRoute):
            yield _rule("websocket", path, context.endpoint, set())
        else:
            yield _rule("http", path, context.endpoint, set(context.methods or ()))


def _rule(kind: Any, path: str, endpoint: Any, methods: set[str]) -> Rule:
    role = getattr(endpoint, "nanwatch_role", None)
    if role not in ROUTE_ROLES:
        raise UndeclaredRole(
            f"route {' '.join([*sorted(methods), path])} ({kind}) declares no role: expected "
            f"@requires(...) with one of {', '.join(ROUTE_ROLES)} on its endpoint, got {role!r}"
        )
    if kind == "http" and not methods:
        raise UndeclaredRole(f"route {path} answers every method: name the methods it answers")
    body = getattr(endpoint, "nanwatch_body", None)
    return Rule(kind, path, compile_path(path)[0], frozenset(methods), role, body)


def find(rules: Sequence[Rule], kind: str, method: str, path: str) -> Rule | set[str]:
    """The rule for a request, or the methods that its path does answer (empty: unknown path)."""
    answered: set[str] = set()
    first = path.split("/", 2)[1]
    for rule in rules:
        if rule.kind != kind or not rule.pattern.match(path):
            continue
        if first in _GUARDED and rule.path.split("/", 2)[1] != first:
            continue
        if kind == "websocket" or method in rule.methods:
            return rule
        answered |= rule.methods
    return answered
