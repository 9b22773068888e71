"""Login, session, logout and tokens over HTTP, with the real gate and store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fastapi import FastAPI

from nanwatch_server.api import session, tokens
from nanwatch_server.auth.sessions import new_login_code


@pytest.fixture
def lab(store, server_kit) -> Iterator[SimpleNamespace]:
    app = FastAPI(openapi_url=None)
    app.include_router(session.router)
    app.include_router(tokens.router)
    with server_kit.running(server_kit.guarded(app, store)) as server:
        yield SimpleNamespace(server=server, store=store)


def signed_in(lab, role: str) -> str:
    code = new_login_code(lab.store, role, time.time())
    answer = lab.server.ask("POST", "/api/login", {"code": code}, Origin=lab.server.origin)
    assert answer.status == 200
    return answer.headers["set-cookie"].split(";")[0]


def test_a_link_logs_in_once(lab):
    code = new_login_code(lab.store, "control", time.time())
    answer = lab.server.ask("POST", "/api/login", {"code": code})
    assert (answer.status, answer.json["role"]) == (200, "control")
    value, *flags = answer.headers["set-cookie"].split("; ")
    assert sorted(flags) == ["HttpOnly", "Max-Age=604800", "Path=/", "SameSite=Strict"]
    again = lab.server.ask("POST", "/api/login", {"code": code})
    assert (again.status, again.code) == (401, "unauthenticated")
    assert "set-cookie" not in again.headers
    assert code not in again.json["error"]["message"]
    who = lab.server.ask("GET", "/api/session", Cookie=value)
    assert who.json == {"actor": answer.json["actor"], "role": "control", "version": "test"}


def test_login_cannot_be_done_from_another_site(lab):
    code = new_login_code(lab.store, "view", time.time())
    for told in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Content_Type": "text/plain"},
        {"X_Nanwatch": None},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert lab.server.ask("POST", "/api/login", {"code": code}, **told).status in (403, 415)
    assert lab.server.ask("POST", "/api/login", {"code": code}).status == 200


def test_odd_login_bodies(lab):
    for body in (
        {},
        {"code": 1},
        {"code": None},
        {"code": "x", "role": "admin"},
        [],
        {"code": "x" * 201},
    ):
        assert lab.server.ask("POST", "/api/login", body).status == 422, body
    seen = {lab.server.ask("POST", "/api/login", {"code": "no"}).status for _ in range(130)}
    assert seen == {401, 429}


def test_logout_ends_the_session_for_every_copy_of_the_cookie(lab):
    cookie, other = signed_in(lab, "view"), signed_in(lab, "view")
    assert lab.server.ask("GET", "/api/session", Cookie=cookie).status == 200
    answer = lab.server.ask("POST", "/api/logout", {}, Cookie=cookie, Origin=lab.server.origin)
    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["set-cookie"].startswith("nanwatch_session=; Path=/; Max-Age=0;")
    assert lab.server.ask("GET", "/api/session", Cookie=cookie).status == 401
    assert lab.server.ask("GET", "/api/session", Cookie=other).status == 200


def test_tokens_are_shown_once_and_end_when_revoked(lab):
    admin = signed_in(lab, "admin")
    body = {"role": "ingest", "project": "sac", "note": "cluster"}
    made = lab.server.ask("POST", "/api/tokens", body, Cookie=admin)
    assert made.status == 201
    assert set(made.json) == {"id", "token"}
    listed = lab.server.ask("GET", "/api/tokens", Cookie=admin).json["tokens"]
    assert [(t["role"], t["project"], t["note"]) for t in listed] == [("ingest", "sac", "cluster")]
    view = lab.server.ask("POST", "/api/tokens", {"role": "view"}, Cookie=admin).json
    key = {"Authorization": f"Bearer {view['token']}"}
    assert lab.server.ask("GET", "/api/session", **key).json["role"] == "view"
    gone = lab.server.ask("DELETE", f"/api/tokens/{view['id']}", Cookie=admin)
    assert gone.status == 200
    assert lab.server.ask("GET", "/api/session", **key).status == 401
    assert lab.server.ask("DELETE", "/api/tokens/nothing", Cookie=admin).status == 404
    for bad in ({"role": "root"}, {"role": "view", "project": "p"}, {"role": 1}, {}):
        assert lab.server.ask("POST", "/api/tokens", bad, Cookie=admin).status == 422, bad
    for role in ("view", "respond", "control"):
        cookie = signed_in(lab, role)
        assert lab.server.ask("POST", "/api/tokens", {"role": "view"}, Cookie=cookie).status == 403
