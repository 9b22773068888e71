"""One-time login codes and browser sessions.

A code is 256 random bits, good once and for ten minutes; it travels in the fragment of the login
link, which no server or proxy logs. Only SHA-256 values are stored. Rows have: code: sha256, role,
created_at, expires_at; session: sha256, actor, role, created_at, last_seen_at, expires_at.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from nanwatch_server.auth.credentials import COOKIE, SESSION_MAX_S, Presented, digest
from nanwatch_server.domain.models import ROLES, Principal, Role
from nanwatch_server.domain.ports import Store

LOGIN_CODE_S = 600.0


@dataclass(frozen=True, slots=True)
class Session:
    """A fresh browser session. `secret` goes into the cookie and nowhere else."""

    actor: str
    role: Role
    secret: str


def new_login_code(store: Store, role: str, now: float, *, by: Principal | None = None) -> str:
    """A code for one login as `role`; audited when somebody (`by`) asked for it."""
    if role not in ROLES or role == "ingest":
        raise ValueError(
            f"expected a role of a person (view, respond, control, admin), got {role!r}"
        )
    code = secrets.token_urlsafe(32)
    with store.write() as uow:
        uow.put_login_code(
            {
                "sha256": digest(code),
                "role": role,
                "created_at": now,
                "expires_at": now + LOGIN_CODE_S,
            }
        )
        if by is not None:
            uow.audit(
                at=now,
                actor=by.actor,
                role=by.role,
                via=by.via,
                action="login_code.create",
                detail={"role": role},
            )
    return code


def login_url(base: str, code: str) -> str:
    """The link to open. The code stands behind `#`, so that it is in no log and no Referer."""
    return f"{base.rstrip('/')}/login#code={code}"


def login(store: Store, code: str, now: float) -> Session | None:
    """Exchange a code for a session, in one transaction; None if it is unknown, used or too old."""
    secret = secrets.token_urlsafe(32)
    actor = f"browser:{secrets.token_hex(4)}"
    with store.write() as uow:
        row = uow.take_login_code(digest(code), now)
        if row is None:
            return None
        uow.put_session(
            {
                "sha256": digest(secret),
                "actor": actor,
                "role": row["role"],
                "created_at": now,
                "last_seen_at": now,
                "expires_at": now + SESSION_MAX_S,
            }
        )
        uow.audit(at=now, actor=actor, role=row["role"], via="session", action="login")
    return Session(actor=actor, role=row["role"], secret=secret)


def logout(store: Store, secret: Presented, by: Principal, now: float) -> None:
    """End the session on the server, so that a copy of the cookie is worth nothing."""
    row = store.session(secret.sha256) if secret.kind == "session" else None
    if row is None:
        return
    with store.write() as uow:
        uow.put_session({**row, "expires_at": min(now, row["expires_at"])})
        uow.audit(at=now, actor=by.actor, role=by.role, via=by.via, action="logout")


def cookie(secret: str, *, secure: bool) -> str:
    """The `Set-Cookie` value for a session; an empty secret takes it away."""
    age = int(SESSION_MAX_S) if secret else 0
    flags = "; Secure" if secure else ""
    return f"{COOKIE}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{flags}"
