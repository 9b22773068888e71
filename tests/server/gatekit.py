"""A real server for tests: the app behind the gate on a real port, on a real SQLite file."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from nanwatch_server.auth.credentials import Credentials, FailedAttempts
from nanwatch_server.auth.gate import Gate


class Answer:
    """Status, headers and body of an HTTP answer."""

    def __init__(self, raw: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = raw.status, raw.headers, raw.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of the protocol."""
        return self.json["error"]["code"]


class Served:
    """Where the server is, and plain ways to talk to it that add no header by themselves."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.origin = f"http://{self.host}"

    def raw(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes = b""
    ) -> Answer:
        """Exactly these headers and this target, nothing normalised."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body or method not in ("GET", "HEAD"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def ask(self, method: str, target: str, json_body: Any = None, **headers: str | None) -> Answer:
        """A well-formed request; a keyword (`_` for `-`) changes a header, None takes it out."""
        wanted: dict[str, str | None] = {"Host": self.host}
        body = b""
        if method not in ("GET", "HEAD"):
            wanted |= {"Content-Type": "application/json", "X-Nanwatch": "1"}
            body = b"{}" if json_body is None else json.dumps(json_body).encode()
        wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.raw(method, target, [(k, v) for k, v in wanted.items() if v is not None], body)

    def upgrade(self, target: str, **headers: str | None) -> int:
        """Status of a WebSocket handshake: 101 if it was accepted."""
        wanted: dict[str, str | None] = {
            "Host": self.host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [
            f"GET {target} HTTP/1.1",
            *(f"{k}: {v}" for k, v in wanted.items() if v is not None),
        ]
        return int(self.bytes("\r\n".join([*lines, "", ""]).encode()).split(b" ", 2)[1])

    def bytes(self, request: bytes) -> bytes:
        """The beginning of what comes back for these very bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain:
            plain.sendall(request)
            return plain.recv(65536)


@contextlib.contextmanager
def running(app: Any, lifespan: Any = "off") -> Iterator[Served]:
    """Serve an ASGI app on a free port of the loopback interface."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_config=None, proxy_headers=False, lifespan=lifespan, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield Served(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"
        listener.close()


def guarded(app: FastAPI, store: Any, **options: Any) -> Gate:
    """The app with its state, behind its gate, as the composition root does it."""
    credentials, failures = Credentials(store), FailedAttempts()
    app.state.store, app.state.credentials, app.state.failures = store, credentials, failures
    app.state.clock, app.state.version = time.time, "test"
    return Gate(app, credentials, failures=failures, **options)
