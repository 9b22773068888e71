"""Making, listing and revoking bearer tokens, and the local file by which an SDK finds the server.

A token is `nw_<role>_<43 url-safe characters>`; only its SHA-256 is stored, so it is shown once.
A row has: id, sha256, prefix, role, project, note, created_at, revoked_at (None while it is good).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import uuid
from pathlib import Path
from typing import Any

from nanwatch.contract.limits import is_name
from nanwatch_server.auth.credentials import digest
from nanwatch_server.domain.models import ROLES, Principal
from nanwatch_server.domain.ports import Store

SERVER_FILE = "server.json"
_PREFIX_CHARS = 6
NOTE_CHARS_MAX = 200
_SYSTEM = Principal(actor="system", role="admin", via="system")


class TokenError(ValueError):
    """A token cannot be made or revoked; the text says what was expected and what came."""


def new_token(
    store: Store,
    role: str,
    project: str = "",
    note: str = "",
    now: float = 0.0,
    *,
    by: Principal = _SYSTEM,
) -> str:
    """Make a token and return its text, which nobody can read again."""
    return create_token(store, role, project, note, now, by=by)["token"]


def create_token(
    store: Store, role: str, project: str, note: str, now: float, *, by: Principal
) -> dict[str, Any]:
    """Make a token: its id and its text. Row and audit in one transaction."""
    if role not in ROLES:
        raise TokenError(f"unknown role {role!r}: expected one of {', '.join(ROLES)}")
    if project and role != "ingest":
        raise TokenError(f"only an ingest token is bound to a project, got role {role!r}")
    if project and not is_name(project):
        raise TokenError(f"expected a project name of letters, digits and _./:@-, got {project!r}")
    if len(note) > NOTE_CHARS_MAX:
        raise TokenError(f"expected a note of at most {NOTE_CHARS_MAX} characters")
    head = f"nw_{role}_"
    token = head + secrets.token_urlsafe(32)
    row = {
        "id": uuid.uuid4().hex,
        "sha256": digest(token),
        "prefix": token[: len(head) + _PREFIX_CHARS],
        "role": role,
        "project": project,
        "note": note,
        "created_at": now,
        "revoked_at": None,
    }
    with store.write() as uow:
        uow.put_token(row)
        detail = {"role": role, "project": project, "note": note, "prefix": row["prefix"]}
        _audit(uow, now, by, "token.create", row["id"], detail)
    return {"id": row["id"], "token": token}


def list_tokens(store: Store) -> list[dict[str, Any]]:
    """All tokens, without what could be used to forge one."""
    return [
        {name: value for name, value in row.items() if name != "sha256"} for row in store.tokens()
    ]


def revoke_token(store: Store, token_id: str, now: float, *, by: Principal) -> dict[str, Any]:
    """Revoke for ever. A second time changes nothing. Raises `TokenError` if there is none."""
    row = next((r for r in store.tokens() if r["id"] == token_id), None)
    if row is None:
        raise TokenError(f"there is no token {token_id[:64]!r}")
    if row["revoked_at"] is None:
        row = {**row, "revoked_at": now}
        with store.write() as uow:
            uow.put_token(row)
            _audit(uow, now, by, "token.revoke", token_id, {"prefix": row["prefix"]})
    return row


def ensure_local_token(store: Store, data_dir: Path, role: str, now: float) -> str:
    """A token for programs of the same user: the one in `server.json` if it still works.

    `ingest` serves the SDK, `admin` serves `nanwatch login`. Programs of the same user can read
    the file; they can replace the database beside it as well, so that is where the line runs.
    """
    path = data_dir / SERVER_FILE
    try:
        token = json.loads(path.read_text())[f"{role}_token"]
        row = store.token(digest(token))
        if row is not None and row["revoked_at"] is None and row["role"] == role:
            return token
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return new_token(store, role, "", "for programs of this user on this machine", now)


def write_server_file(data_dir: Path, url: str, ingest_token: str, admin_token: str) -> Path:
    """Say where the server is, readable by this user only, replaced in one move."""
    path = data_dir / SERVER_FILE
    fresh = data_dir / f".{SERVER_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    text = json.dumps(
        {
            "url": url,
            "ingest_token": ingest_token,
            "admin_token": admin_token,
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
    )
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    fresh.replace(path)
    return path


def _audit(
    uow: Any, now: float, by: Principal, action: str, target: str, detail: dict[str, Any]
) -> None:
    uow.audit(
        at=now,
        actor=by.actor,
        role=by.role,
        via=by.via,
        action=action,
        target=target,
        detail=detail,
    )
