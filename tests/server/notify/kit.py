"""Real receivers of messages on 127.0.0.1 (HTTP and mail), and incidents to tell them of."""

from __future__ import annotations

import email.policy
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from nanwatch.contract import frames as f
from nanwatch_server.domain.models import (
    Diagnosis,
    Evidence,
    Finding,
    Incident,
    IncidentState,
    Principal,
    Severity,
    Suggestion,
    replace,
)
from tests.server.wire import RUN

ADMIN = Principal(actor="token:test", role="admin", via="token")
BODY_MAX = 1 << 20


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


class Received:
    """One request as it came."""

    def __init__(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.method, self.path = handler.command, handler.path
        self.headers = dict(handler.headers.items())
        length = min(int(self.headers.get("Content-Length", 0)), BODY_MAX)
        self.body = handler.rfile.read(length)
        self.at = time.time()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The delivery's key."""
        return self.headers["Webhook-Id"]


class Receiver:
    """An HTTP server that keeps what it is sent and answers as the test says."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[Received] = []
        self.answers: list[int] = []
        """Statuses of the next answers; afterwards 200."""
        self.headers: dict[str, str] = {}
        """Sent with every answer."""
        self.hold = threading.Event()
        """Nothing is answered while it is not set."""
        self.hold.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.got.append(Received(self))
                outer.hold.wait(60)
                self.send_response(outer.answers.pop(0) if outer.answers else 200)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_GET = do_PUT = do_POST

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook/s3cr3t-path"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def bodies(self) -> list[Any]:
        return [one.json for one in self.got]

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    made = Receiver(port)
    try:
        yield made
    finally:
        made.close()


class Mailbox:
    """A mail server that keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        parser = email.message_from_bytes
        self.got.append(parser(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 OK"


@contextmanager
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """A mailbox and its port."""
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        yield box, controller.port
    finally:
        controller.stop()


# --- incidents ------------------------------------------------------------------------------------

CAUSE = Diagnosis(
    syndrome="exploding-gradient",
    title="Gradients double every 40 steps",
    what="The gradient norm has doubled every 40 steps since step 9120.",
    why="The norm before clipping is 41 against a limit of 5.",
    confidence=0.9,
    forecast="Overflow in about 900 steps.",
    suggestions=(
        Suggestion(text="lower the LR, 3e-4 to 3e-5", treats="cause", copy="--lr 3e-5"),
        Suggestion(text="clip to 1.0", treats="symptom"),
    ),
)


def incident(
    severity: Severity = Severity.WARNING,
    state: IncidentState = IncidentState.FIRING,
    *,
    id: str = "i1",
    run: str = RUN,
    **more: Any,
) -> Incident:
    """One of run `RUN` with everything a message can say."""
    finding = Finding(
        run_id=run,
        rule="grad_explosion",
        severity=severity,
        step=9380,
        onset_step=9120,
        time=5.0,
        title="t",
        message="m",
        evidence=(Evidence(label="norm before clipping", value="41.2", limit="5.0"),),
    )
    made = Incident(
        id=id,
        run_id=run,
        state=state,
        severity=severity,
        diagnosis=CAUSE,
        onset_step=9120,
        fired_step=9380,
        last_step=9400,
        opened_at=1_800_000_000.0,
        updated_at=1_800_000_000.0,
        count=2,
        findings=(finding,),
    )
    if state is IncidentState.RESOLVED:
        made = replace(made, resolved_step=9800, resolved_at=made.opened_at + 720)
    return replace(made, **more)


def stored_run(store: Any, run: str = RUN, name: str = "sac-ant", project: str = "rl") -> None:
    """The run in the database."""
    with store.write() as uow:
        info = f.RunInfo(id=run, project=project, name=name, started_at=1.0)
        uow.upsert_run(info, None, time.time())
