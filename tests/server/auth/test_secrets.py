"""Tokens, login codes and sessions in the real store: what is kept, how long, and what leaks."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import time

import pytest
from fastapi import FastAPI

from nanwatch_server.api import audit, session, tokens
from nanwatch_server.auth.credentials import Credentials, FailedAttempts, digest, presented
from nanwatch_server.auth.sessions import login, login_url, logout, new_login_code
from nanwatch_server.auth.tokens import (
    TokenError,
    create_token,
    ensure_local_token,
    list_tokens,
    new_token,
    revoke_token,
    write_server_file,
)
from nanwatch_server.domain.models import Principal

ADMIN = Principal(actor="test", role="admin", via="system")
DAY = 86400.0


def who(store, text: str, now: float, kind: str = "token") -> Principal | None:
    headers = {"authorization": f"Bearer {text}"}
    if kind == "session":
        headers = {"cookie": f"other=1; nanwatch_session={text}"}
    secret = presented(headers)
    assert secret is not None
    return Credentials(store, lambda: now).lookup(secret)


def test_a_token_is_known_by_its_hash_until_it_is_revoked(store):
    made = create_token(store, "ingest", "sac", "cluster", 5.0, by=ADMIN)
    assert made["token"].startswith("nw_ingest_")
    assert len(made["token"]) == len("nw_ingest_") + 43
    found = who(store, made["token"], 6.0)
    assert found is not None
    assert (found.role, found.project, found.via) == ("ingest", "sac", "token")
    assert found.actor == "token:" + made["token"][:16]
    assert who(store, made["token"][:-1] + "_", 6.0) is None
    (row,) = list_tokens(store)
    assert "sha256" not in row
    assert made["token"] not in json.dumps(row)
    assert made["token"].startswith(row["prefix"])
    first = revoke_token(store, made["id"], 7.0, by=ADMIN)
    assert revoke_token(store, made["id"], 9.0, by=ADMIN) == first
    assert first["revoked_at"] == 7.0
    assert who(store, made["token"], 8.0) is None
    actions = [row["action"] for row in store.audit_rows()]
    assert actions == ["token.revoke", "token.create"]


@pytest.mark.parametrize(
    ("role", "project", "text"),
    [
        ("root", "", "unknown role 'root'"),
        ("public", "", "expected one of ingest"),
        ("view", "p", "only an ingest token"),
        ("ingest", "../x y", "expected a project name"),
    ],
)
def test_tokens_that_make_no_sense_are_not_made(store, role, project, text):
    with pytest.raises(TokenError, match=text):
        new_token(store, role, project)
    assert store.tokens() == []
    with pytest.raises(TokenError, match="no token"):
        revoke_token(store, "nothing", 1.0, by=ADMIN)


def test_a_login_code_works_once_and_for_ten_minutes(store):
    code = new_login_code(store, "control", 100.0)
    assert login_url("http://localhost:1/", code) == f"http://localhost:1/login#code={code}"
    assert len(code) == 43
    assert login(store, code + "x", 101.0) is None
    made = login(store, code, 699.0)
    assert made is not None
    assert made.role == "control"
    assert login(store, code, 699.0) is None
    late = new_login_code(store, "view", 100.0)
    assert login(store, late, 700.0) is None
    for role in ("ingest", "root"):
        with pytest.raises(ValueError, match="role of a person"):
            new_login_code(store, role, 1.0)


def test_a_session_ends_after_twelve_idle_hours_or_seven_days_or_at_logout(store):
    def fresh() -> str:
        made = login(store, new_login_code(store, "view", 0.0), 0.0)
        assert made is not None
        return made.secret

    idle = fresh()
    assert who(store, idle, 12 * 3600 - 1, "session") is not None
    assert who(store, fresh(), 12 * 3600, "session") is None
    used = fresh()
    for hour in range(0, 7 * 24, 6):
        assert who(store, used, hour * 3600.0, "session") is not None, hour
    assert who(store, used, 7 * DAY, "session") is None
    left = fresh()
    principal = who(store, left, 1.0, "session")
    assert principal is not None
    secret = presented({"cookie": f"nanwatch_session={left}"})
    assert secret is not None
    logout(store, secret, principal, 2.0)
    assert who(store, left, 3.0, "session") is None
    # A session is no token and a token no session.
    token = new_token(store, "admin")
    assert who(store, token, 1.0, "session") is None
    assert who(store, fresh(), 1.0) is None


def test_cookies_of_other_programs_on_the_same_host_do_no_harm():
    mine = presented({"cookie": "nanwatch_session=s"})
    assert mine is not None
    odd = ['a={"json": [1, 2]}', "b", "=c", 'd="x\\"y', "nanwatch_session2=z", "ü=é", "e=a=b"]
    for other in odd:
        for line in (f"{other}; nanwatch_session=s", f"nanwatch_session=s;{other}"):
            assert presented({"cookie": line}) == mine, line
    for line in ("", ";;", "nanwatch_session", "nanwatch_session=", "Nanwatch_Session=s"):
        assert presented({"cookie": line}) is None, line


def test_failures_are_counted_by_address_and_minute():
    now = 0.0
    failed = FailedAttempts(lambda: now, limit=2)
    assert [failed.add("a"), failed.add("a"), failed.add("b")] == [None] * 3
    assert failed.add("a") == 60.0
    now = 59.0
    assert failed.add("a") == 1.0
    now = 60.0
    assert failed.add("a") is None


def test_the_file_for_programs_of_the_same_user(store, tmp_path):
    token = ensure_local_token(store, tmp_path, "ingest", 1.0)
    before = os.umask(0)
    try:
        path = write_server_file(tmp_path, "http://127.0.0.1:8400", token, "nw_admin_x")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "url": "http://127.0.0.1:8400",
        "ingest_token": token,
        "admin_token": "nw_admin_x",
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
    assert ensure_local_token(store, tmp_path, "ingest", 2.0) == token
    revoke_token(store, store.tokens()[0]["id"], 3.0, by=ADMIN)
    other = ensure_local_token(store, tmp_path, "ingest", 4.0)
    assert other != token
    path.write_text('["not what we wrote"]')
    assert ensure_local_token(store, tmp_path, "ingest", 5.0) not in (token, other)
    write_server_file(tmp_path, "http://127.0.0.1:8401", other, "nw_admin_x")
    assert [p.name for p in tmp_path.iterdir() if "server" in p.name] == ["server.json"]


def test_no_secret_lies_in_the_database_or_the_logs(store, tmp_path, server_kit, caplog):
    """A canary: everything a secret passes through is searched for it afterwards."""
    app = FastAPI(openapi_url=None)
    for part in (session, tokens, audit):
        app.include_router(part.router)
    caplog.set_level(logging.DEBUG)
    code = new_login_code(store, "admin", time.time())
    with server_kit.running(server_kit.guarded(app, store)) as server:
        answer = server.ask("POST", "/api/login", {"code": code})
        cookie = answer.headers["set-cookie"].split(";")[0]
        made = server.ask("POST", "/api/tokens", {"role": "view"}, Cookie=cookie).json
        key = f"Bearer {made['token']}"
        assert server.ask("GET", "/api/session", Authorization=key).status == 200
        assert server.ask("GET", "/api/tokens", Authorization=key).status == 403
        listed = server.ask("GET", "/api/tokens", Cookie=cookie).body
        history = server.ask("GET", "/api/audit", Cookie=cookie).body
    secrets = [code, cookie.split("=", 1)[1], made["token"], made["token"][8:]]
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.stat().st_size for path in files)
    stored = b"".join(path.read_bytes() for path in files)
    assert digest(code).encode() in stored
    assert "GET /api/session" in caplog.text
    for secret in secrets:
        assert secret.encode() not in stored
        assert secret not in caplog.text
        assert secret.encode() not in listed + history
