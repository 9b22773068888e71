"""The whole server as `app` composes it: every route of it against every role."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from nanwatch.contract.limits import INGEST_PATH, LIVE_PATH
from nanwatch_server.app import Server
from nanwatch_server.auth.gate import Gate
from nanwatch_server.auth.sessions import login, new_login_code
from nanwatch_server.auth.tokens import new_token
from nanwatch_server.domain.models import role_covers
from nanwatch_server.settings import Settings

ROLES = ("ingest", "view", "respond", "control", "admin")


@pytest.fixture
def lab(data_dir, server_kit) -> Iterator[SimpleNamespace]:
    whole = Server(Settings(data_dir=data_dir))
    gate = whole.app
    while not isinstance(gate, Gate):  # security headers lie around it
        gate = gate._app
    keys = {role: "Bearer " + new_token(whole.store, role) for role in ROLES}
    made = login(whole.store, new_login_code(whole.store, "admin", time.time()), time.time())
    assert made is not None
    cookie = f"nanwatch_session={made.secret}"
    with server_kit.running(whole.app, "on") as server:
        yield SimpleNamespace(server=server, rules=gate.rules, keys=keys, cookie=cookie)


def filled(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "0" * 32, path)


def test_every_route_of_the_server_against_every_role(lab):
    """The table of `docs/protocol.md`, as the running app has it."""
    asked = 0
    for rule in lab.rules:
        for role in (None, *ROLES):
            allowed = rule.role == "public" or (role is not None and role_covers(role, rule.role))
            refused = 401 if role is None else 403
            key = None if role is None else lab.keys[role]
            if rule.kind == "websocket":
                status = lab.server.upgrade(filled(rule.path), Authorization=key)
                assert status == (101 if allowed else refused), (rule, role)
                asked += 1
                continue
            for method in sorted(rule.methods):
                answer = lab.server.ask(method, filled(rule.path), Authorization=key)
                assert answer.status != 500, (rule, role)
                if allowed:
                    assert answer.status not in (401, 403), (rule, role, answer.body)
                else:
                    assert answer.status == refused, (rule, role)
                asked += 1
    assert asked > 100


def test_the_routes_that_the_protocol_names_have_its_roles(lab):
    table = {(method, rule.path): rule.role for rule in lab.rules for method in rule.methods}
    sockets = {rule.path: rule.role for rule in lab.rules if rule.kind == "websocket"}
    assert sockets == {INGEST_PATH: "ingest", LIVE_PATH: "view"}
    protocol = {
        ("GET", "/healthz"): "public",
        ("POST", "/api/login"): "public",
        ("POST", "/api/logout"): "view",
        ("GET", "/api/session"): "view",
        ("GET", "/api/runs"): "view",
        ("GET", "/api/audit"): "view",
        ("POST", "/api/tokens"): "admin",
        ("GET", "/api/tokens"): "admin",
    }
    for place, role in protocol.items():
        assert table[place] == role, place
    public = {place for place, role in table.items() if role == "public"}
    assert {method for method, _ in public} <= {"GET", "HEAD", "POST"}
    assert [place for place in public if place[0] == "POST"] == [("POST", "/api/login")]
    for (method, path), role in table.items():
        if path.startswith("/api/") and path != "/api/login":
            assert role != "public", path
            assert method == "GET" or role != "view" or path == "/api/logout", path


def test_foreign_pages_reach_nothing_of_the_whole_server(lab):
    odd = {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}
    for rule in lab.rules:
        for told in odd:
            told = {"Cookie": lab.cookie, **told}
            if rule.kind == "websocket":
                assert lab.server.upgrade(filled(rule.path), **told) == 403, rule
                continue
            for method in sorted(rule.methods):
                assert lab.server.ask(method, filled(rule.path), **told).status == 403, rule


def test_the_live_socket_of_a_page(lab):
    assert lab.server.upgrade(LIVE_PATH, Cookie=lab.cookie, Origin=lab.server.origin) == 101
    assert lab.server.upgrade(LIVE_PATH, Cookie=lab.cookie) == 403
    assert lab.server.upgrade(INGEST_PATH, Cookie=lab.cookie) == 403


def test_every_answer_has_its_safe_headers(lab):
    for path, status in (("/", 200), ("/api/session", 401), ("/api/x", 404), ("/a%2fb", 400)):
        answer = lab.server.ask("GET", path)
        assert answer.status == status, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers


def test_behind_a_proxy_that_speaks_tls_the_cookie_is_secure_and_the_link_is_https(
    data_dir, server_kit
):
    whole = Server(Settings(data_dir=data_dir, allowed_hosts=("https://watch.example",)))
    admin = "Bearer " + new_token(whole.store, "admin")
    with server_kit.running(whole.app, "on") as server:
        for host, scheme in (("watch.example", "https://"), (server.host, "http://")):
            asked = server.ask("POST", "/api/login-codes", Host=host, Authorization=admin)
            link = asked.json["login_url"]
            assert link.startswith(f"{scheme}{host}/login#code=")
            code = {"code": link.split("code=")[1]}
            cookie = server.ask("POST", "/api/login", code, Host=host).headers["Set-Cookie"]
            assert ("; Secure" in cookie) == (scheme == "https://")
