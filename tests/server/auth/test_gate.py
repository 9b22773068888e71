"""The gate around a real FastAPI app on a real port: hosts, origins, paths, roles, sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
import websockets
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from nanwatch_server.api import audit, session, tokens
from nanwatch_server.auth import gate as gate_module
from nanwatch_server.auth.credentials import Credentials
from nanwatch_server.auth.gate import Gate, UndeclaredRole, principal_of, requires
from nanwatch_server.auth.rules import Rule, collect, find, is_clean
from nanwatch_server.auth.sessions import login, new_login_code
from nanwatch_server.auth.tokens import new_token, revoke_token
from nanwatch_server.domain.models import Principal, role_covers

ROLES = ("ingest", "view", "respond", "control", "admin")
ADMIN = Principal(actor="test", role="admin", via="system")


def make_app(tmp_path) -> FastAPI:
    """One route for every role and kind, in a router as real ones are, and the page behind all."""
    app = FastAPI(openapi_url=None)
    router = APIRouter(prefix="/api")
    for role in ("public", *ROLES):

        @requires(role)
        def read(request: Request) -> dict:
            who = request.scope["nanwatch.principal"]
            return {"role": who and who.role, "state": who is request.state.principal}

        async def echo(request: Request) -> dict:
            return {"bytes": len(await request.body())}

        @requires(role)
        async def talk(socket: WebSocket) -> None:
            await socket.accept()
            with_who = principal_of(socket.scope)
            async for _ in socket.iter_text():
                await socket.send_text(with_who.role if with_who else "nobody")

        router.add_api_route(f"/{role}/read", read, methods=["GET"])
        router.add_api_route(f"/{role}/write/{{name}}", requires(role)(echo), methods=["POST"])
        router.add_api_websocket_route(f"/{role}/ws", talk)
    app.include_router(router)
    for part in (audit, session, tokens):
        app.include_router(part.router)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "page.js").write_text("1")
    app.mount("/assets", requires("public")(StaticFiles(directory=tmp_path / "assets")))

    @app.get("/{path:path}")
    @requires("public")
    def page(path: str) -> HTMLResponse:
        return HTMLResponse("the page")

    return app


@pytest.fixture
def gate(store, tmp_path, server_kit) -> Gate:
    options = {"allowed_hosts": ["lab.example:9000", "https://watch.example"]}
    return server_kit.guarded(make_app(tmp_path), store, **options)


@pytest.fixture
def server(gate, server_kit) -> Iterator:
    with server_kit.running(gate) as served:
        yield served


@pytest.fixture
def keys(store) -> dict[str, str]:
    return {role: "Bearer " + new_token(store, role, now=time.time()) for role in ROLES}


def cookie_of(store, role: str) -> str:
    made = login(store, new_login_code(store, role, time.time()), time.time())
    assert made is not None
    return f"nanwatch_session={made.secret}"


# --- roles ---------------------------------------------------------------------------------------


def test_every_role_reaches_exactly_its_routes(gate, server, keys):
    """The full matrix, from the app's own table of routes."""
    asked = 0
    for rule in gate.rules:
        path = (
            rule.path.replace("{path:path}", "x").replace("{name}", "n").replace("{token_id}", "t")
        )
        for role in (None, *ROLES):
            allowed = rule.role == "public" or (role is not None and role_covers(role, rule.role))
            refused = 401 if role is None else 403
            key = None if role is None else keys[role]
            if rule.kind == "websocket":
                status = server.upgrade(path, Authorization=key)
                assert status == (101 if allowed else refused), (rule, role)
            else:
                for method in rule.methods - {"HEAD"}:
                    status = server.ask(method, path, Authorization=key).status
                    # A public login with an unknown code says 401 by itself, and 422 without one.
                    assert (status not in (401, 403)) if allowed else status == refused, (
                        rule,
                        role,
                    )
            asked += 1
    assert asked >= 6 * 24


def test_a_wrong_or_odd_credential_is_unauthenticated(server, keys, store):
    good = keys["view"]
    for bad in ("Bearer nw_view_wrong", "Bearer", "", "Basic " + good[7:], good + "x", good[7:]):
        assert server.ask("GET", "/api/view/read", Authorization=bad).status == 401, bad
        assert server.upgrade("/api/view/ws", Authorization=bad) == 401, bad
    # A bad bearer token is not saved by a good cookie.
    cookie = cookie_of(store, "view")
    assert server.ask("GET", "/api/view/read", Cookie=cookie).json["role"] == "view"
    assert (
        server.ask("GET", "/api/view/read", Cookie=cookie, Authorization="Bearer x").status == 401
    )
    assert server.ask("GET", "/api/view/read", Authorization=good).json == {
        "role": "view",
        "state": True,
    }


def test_a_route_without_a_role_fails_at_start_with_its_path(store):
    app = FastAPI(openapi_url=None)
    router = APIRouter(prefix="/api")
    router.add_api_route("/forgotten/{x}", lambda x: x, methods=["GET"])
    app.include_router(router)
    with pytest.raises(UndeclaredRole, match=r"GET /api/forgotten/\{x\}.*got None"):
        Gate(app, Credentials(store))

    async def socket(ws: WebSocket) -> None: ...

    other = FastAPI(openapi_url=None)
    other.add_api_websocket_route("/live", socket)
    with pytest.raises(UndeclaredRole, match="/live"):
        Gate(other, Credentials(store))
    mounted = FastAPI(openapi_url=None)
    mounted.mount("/files", StaticFiles(directory="."))
    with pytest.raises(UndeclaredRole, match="/files"):
        Gate(mounted, Credentials(store))
    with pytest.raises(UndeclaredRole, match="openapi"):
        Gate(FastAPI(), Credentials(store))
    with pytest.raises(ValueError, match="unknown role 'root'"):
        requires("root")  # type: ignore[arg-type]


# --- host and origin -----------------------------------------------------------------------------


def test_only_known_hosts(server, keys):
    port, key = server.port, keys["view"]
    good = [f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", f"LOCALHOST:{port}"]
    for host in [*good, "lab.example:9000", "watch.example"]:
        assert server.ask("GET", "/api/view/read", Host=host, Authorization=key).status == 200, host
    bad = [
        "localhost", "127.0.0.1", f"localhost:{port + 1}", f"localhost.evil.example:{port}",
        f"evil.example:{port}", f"localhost.:{port}", "lab.example", "lab.example:9001",
        f"127.0.0.2:{port}", f"0.0.0.0:{port}", f"2130706433:{port}", f"a@localhost:{port}", "",
        f"localhost:{port}/", "watch.example:443",
    ]  # fmt: skip
    for host in bad:
        for path in ("/api/view/read", "/", "/assets/page.js"):
            answer = server.ask("GET", path, Host=host, Authorization=key)
            assert (answer.status, answer.code) == (403, "bad_host"), (host, path)
        assert server.upgrade("/api/view/ws", Host=host, Authorization=key) == 403, host
    assert (
        f"localhost:{port}" in server.ask("GET", "/", Host="evil.example").json["error"]["message"]
    )
    twice = [("Host", server.host), ("Host", "evil.example"), ("Authorization", key)]
    assert server.raw("GET", "/api/view/read", twice).status == 400


def test_a_foreign_origin_is_refused_everywhere(server, keys, store):
    port, cookie = server.port, cookie_of(store, "admin")
    foreign = [
        "null", "http://evil.example", f"http://localhost.evil.example:{port}", "",
        f"http://127.0.0.1:{port + 1}", f"https://127.0.0.1:{port}", "http://127.0.0.1",
        f"http://localhost:{port}", f"http://127.0.0.1:{port}.evil.example", "file://",
    ]  # fmt: skip
    for origin in foreign:
        for credential in ({"Cookie": cookie}, {"Authorization": keys["admin"]}, {}):
            for method, path in (
                ("GET", "/api/view/read"),
                ("POST", "/api/view/write/a"),
                ("POST", "/api/login"),
                ("GET", "/"),
            ):
                answer = server.ask(method, path, Origin=origin, **credential)
                assert (answer.status, answer.code) == (403, "bad_origin"), (origin, path)
            assert server.upgrade("/api/view/ws", Origin=origin, **credential) == 403, origin
    assert (
        server.ask("POST", "/api/view/write/a", Cookie=cookie, Origin=server.origin).status == 200
    )
    assert "access-control-allow-origin" not in server.ask("GET", "/", Origin=server.origin).headers


def test_a_proxy_that_speaks_tls_has_its_own_origin(server, keys):
    told = {"Host": "watch.example", "Authorization": keys["view"]}
    assert server.ask("GET", "/api/view/read", Origin="https://watch.example", **told).status == 200
    assert server.ask("GET", "/api/view/read", Origin="http://watch.example", **told).status == 403


def test_a_browser_socket_needs_its_own_origin_and_a_program_needs_none(server, keys, store):
    cookie = cookie_of(store, "view")
    assert server.upgrade("/api/view/ws", Cookie=cookie) == 403
    assert server.upgrade("/api/view/ws", Cookie=cookie, Origin=server.origin) == 101
    assert server.upgrade("/api/view/ws", Authorization=keys["view"]) == 101
    assert (
        server.upgrade("/api/ingest/ws", Authorization=keys["ingest"], Origin=server.origin) == 101
    )


def test_another_site_or_port_in_the_same_browser_reads_nothing(server, store):
    cookie = cookie_of(store, "view")
    for site, status in (
        ("same-origin", 200),
        ("none", 200),
        ("same-site", 403),
        ("cross-site", 403),
    ):
        answer = server.ask("GET", "/api/view/read", Cookie=cookie, Sec_Fetch_Site=site)
        assert answer.status == status, site


# --- writes --------------------------------------------------------------------------------------


def test_a_write_needs_its_marks(server, store):
    def post(**changed):
        told = {"Cookie": cookie, "Origin": server.origin, **changed}
        return server.ask("POST", "/api/respond/write/a", **told).status

    cookie = cookie_of(store, "respond")
    assert post() == 200
    assert post(Origin=None, Sec_Fetch_Site="same-origin") == 200
    assert post(Content_Type="application/json; charset=utf-8") == 200
    assert post(X_Nanwatch=None) == 403
    assert post(X_Nanwatch="true") == 403
    assert post(Sec_Fetch_Site="same-site") == 403
    for kind in (None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"):
        assert post(Content_Type=kind) == 415, kind
    assert server.ask("DELETE", "/api/tokens/x", Cookie=cookie, X_Nanwatch=None).status == 403


def test_a_body_is_at_most_64_kib_and_arrives_whole(server, keys):
    told = [("Host", server.host), ("Authorization", keys["view"])]
    told += [("Content-Type", "application/json"), ("X-Nanwatch", "1")]
    full = server.raw("POST", "/api/view/write/a", told, b"x" * 65536)
    assert full.json == {"bytes": 65536}
    answer = server.raw("POST", "/api/view/write/a", told, b"x" * 65537)
    assert (answer.status, answer.code) == (413, "too_large")
    # Who is asking comes first: nobody's body is read.
    assert server.ask("POST", "/api/view/write/a", {"a": "x" * 70000}).status == 401


# --- paths ---------------------------------------------------------------------------------------


AMBIGUOUS = [
    "/api/public/..%2fadmin/read", "/api/public/%2e%2e/admin/read", "/api%2fadmin%2fread",
    "/api/public/../admin/read", "/api/public/..;/admin/read", "/api/admin/read;x=1",
    "/api/admin/read.", "/api/admin./read", "/api/%61dmin/read", "/api/admin%252fread",
    "//api/admin/read", "/api//admin/read", "/./api/admin/read", "/api/admin/read%00",
    "/api/admin\\read", "/api/admin/read%20", "/assets/..%2f..%2fetc/passwd", "/api/\u00fc/read",
    "/api/admin/rea%64", "/%2e/api/admin/read", "/api/admin/read/.", "/api/admin/..",
]  # fmt: skip


def test_a_path_that_could_be_read_two_ways_is_refused_for_everybody(server, keys):
    for path in AMBIGUOUS:
        for role in ROLES:
            head = f"Host: {server.host}\r\nAuthorization: {keys[role]}\r\n\r\n"
            answer = server.bytes(f"GET {path} HTTP/1.1\r\n{head}".encode("latin-1"))
            assert answer.startswith(b"HTTP/1.1 400"), path


def test_unknown_paths_and_methods(server, keys):
    told = {"Authorization": keys["admin"]}
    for path in (
        "/api",
        "/api/",
        "/api/nothing",
        "/api/admin/read/",
        "/api/audit/x",
        "/live",
        "/ingest/v9",
    ):
        assert server.ask("GET", path, **told).status == 404, path
        assert server.upgrade(path, **told) == 404, path
    assert server.upgrade("/", **told) == 404
    assert server.ask("GET", "/run/some-run", **told).body == b"the page"
    assert server.ask("GET", "/assets/page.js").body == b"1"
    assert server.ask("GET", "/API/admin/read").body == b"the page"
    answer = server.ask("PUT", "/api/admin/read", **told)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
    for method in ("POST", "OPTIONS", "TRACE", "PROPFIND"):
        assert server.ask(method, "/", **told).status == 405, method
    assert server.ask("GET", "/api/admin/ws", **told).status == 404
    assert server.upgrade("/api/admin/read", **told) == 404


def test_the_rule_of_a_path_is_the_rule_of_what_the_router_runs(gate):
    """For paths that are clean, gate and router must choose the same endpoint."""
    paths = ["/", "/api/admin/read", "/api/admin/write/x", "/api/audit", "/a/b", "/assets/page.js"]
    for path in paths:
        for method in ("GET", "POST"):
            rule = find(gate.rules, "http", method, path)
            if isinstance(rule, Rule):
                assert rule.pattern.match(path)
                earlier = gate.rules[: gate.rules.index(rule)]
                assert not [
                    r
                    for r in earlier
                    if r.kind == "http" and method in r.methods and r.pattern.match(path)
                ]
    assert collect(gate.app.routes) == gate.rules
    assert is_clean("/", b"/") and not is_clean("/a/..", b"/a/..")


# --- living with it ------------------------------------------------------------------------------


def test_many_wrong_tokens_are_told_to_wait_and_right_ones_still_pass(server, keys):
    seen = [server.ask("GET", "/api/view/read", Authorization="Bearer no") for _ in range(130)]
    assert {answer.status for answer in seen} == {401, 429}
    last = next(answer for answer in reversed(seen) if answer.status == 429)
    assert 1 <= int(last.headers["retry-after"]) <= 60
    assert server.ask("GET", "/api/view/read", Authorization=keys["view"]).status == 200


def test_a_revoked_token_and_an_ended_session_lose_their_sockets(server, store, keys, monkeypatch):
    monkeypatch.setattr(gate_module, "SWEEP_S", 0.1)
    token = next(row["id"] for row in store.tokens() if row["role"] == "view")
    url = f"ws://{server.host}/api/view/ws"

    async def watch() -> tuple[float, int | None]:
        told = {"Authorization": keys["view"]}
        async with websockets.connect(url, additional_headers=told, proxy=None) as doomed:
            other = {"Authorization": keys["control"]}
            async with websockets.connect(url, additional_headers=other, proxy=None) as kept:
                await doomed.send("x")
                assert await doomed.recv() == "view"
                start = time.monotonic()
                await asyncio.to_thread(revoke_token, store, token, time.time(), by=ADMIN)
                await asyncio.wait_for(doomed.wait_closed(), 6)
                await kept.send("x")
                assert await kept.recv() == "control"
                return time.monotonic() - start, doomed.close_code

    took, code = asyncio.run(watch())
    assert code == 4401
    assert took <= 5
    assert server.upgrade("/api/view/ws", Authorization=keys["view"]) == 401
