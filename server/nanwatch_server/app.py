"""The composition root: makes every part, knows all of them, starts and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket as sockets
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio.to_thread
import structlog
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders

from nanwatch.contract.frames import CommandResult, Forensics, Mark, Record, Table
from nanwatch.contract.limits import FRAME_BYTES_MAX
from nanwatch_server import logs
from nanwatch_server.allocator import keep_pages
from nanwatch_server.api import (
    audit,
    commands,
    errors,
    events,
    export,
    health,
    incidents,
    live,
    notifications,
    rules,
    runs,
    series,
    session,
    static,
    storage,
    tokens,
)
from nanwatch_server.api.schemas import event_json
from nanwatch_server.api.views import Views
from nanwatch_server.api.vitals import Vitals
from nanwatch_server.auth.credentials import Credentials, FailedAttempts
from nanwatch_server.auth.gate import Gate
from nanwatch_server.auth.sessions import login_url, new_login_code
from nanwatch_server.auth.tokens import ensure_local_token, write_server_file
from nanwatch_server.backtest.bench import Bench
from nanwatch_server.control.queue import Desk
from nanwatch_server.domain.models import Command, Incident, Stream
from nanwatch_server.idle import Idle
from nanwatch_server.ingest import gateway, http
from nanwatch_server.ingest.intake import Intake
from nanwatch_server.live.frames import plain
from nanwatch_server.live.hub import Hub
from nanwatch_server.live.presence import PresenceBook
from nanwatch_server.notify.desk import Notifications
from nanwatch_server.pipeline import Pipeline, Rulebook
from nanwatch_server.rehearsal import rehearse
from nanwatch_server.settings import Settings
from nanwatch_server.store.history import History
from nanwatch_server.store.housekeeper import Housekeeper
from nanwatch_server.store.nightly import Backups, Nightly
from nanwatch_server.store.removal import remove_run
from nanwatch_server.store.sizes import Sizes
from nanwatch_server.store.sql import SqlStore
from nanwatch_server.store.tail import Tail

_log = structlog.get_logger()


EXIT_DISK_FAILED = 74
"""Exit code when the disk fails under the database (EX_IOERR of sysexits.h)."""

BUSY_JOBS = 64
"""Batches that wait to be committed."""

BUSY_SHARE = 0.1
"""Part of what may wait for the rules."""

GC_THRESHOLD = (20_000, 20, 20)
"""Python's own (700, 10, 10) took half of the time of many small batches: most of what they make
lives a while, and nothing of it is a cycle."""

SWITCH_S = 0.001
"""A thread that computes lets the others on after this time (Python's default is 5 ms): a batch
changes threads four times between socket and acknowledgement."""

WARM_MOST_S = 2.0
"""So long is the first chart got ready before the server says that it is, and at its end."""

RANKS_KEEP_ROWS = 4_000
"""Rows of a training of several ranks that stay in the journal: parts of one step may lie far
apart."""


class Server:
    """Every part of one server, and its ASGI application (`app`)."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings, self.clock = settings, clock
        self.url = ""
        database = settings.database.get_secret_value()
        self.store = SqlStore(settings.data_dir, database)
        self.hub, self.presence = Hub(), PresenceBook()
        self.history = History(self.store.readers)
        self.tail = Tail(self.store, self.history, points_max=settings.tail_points)
        self.vitals = Vitals(self.store, self.tail, self.presence, clock)
        self.views = Views(self.store, self.presence, self.vitals, clock)
        self.live = live.Live(self.hub, self.views, self.store)
        self.desk = Desk(
            self.store,
            on_change=self.command,
            latest_lr=self.vitals.rates,
            median_step=self.vitals.median_step,
            clock=clock,
        )
        self.keeper = Housekeeper(
            self.store, self.history, self.tail, self._safe_upto, busy=self._busy
        )
        backup_dir = settings.backup_dir or settings.data_dir / "backups"
        days = settings.retention_days or None
        self.sizes = Sizes(self.store, settings.data_dir, backup_dir, days, clock)
        self.nightly = Nightly(
            self.store,
            self.history,
            self.tail,
            self.keeper.chunks,
            data_dir=settings.data_dir,
            retention_days=days,
            backups=Backups(
                backup_dir,
                hour=settings.backup_hour,
                keep=settings.backup_keep,
            ),
            clock=clock,
        )
        self.notifications = Notifications(
            self.store, self.page, allow_local=settings.allow_local_webhooks, clock=clock
        )
        self.rulebook = Rulebook(self.store, clock, lambda p: self.pipeline.limits_changed(p))
        self.bench = Bench(settings.data_dir, database, clock)
        self.pipeline = Pipeline(
            self.store,
            self.tail,
            self.hub,
            self.desk,
            self,
            arrived=self.keeper.committed,
            clock=clock,
            announce=self.notifications.note,
            limits=self.rulebook.of,
        )
        self.intake = Intake(self.store)
        self.gateway = gateway.Gateway(
            self.store,
            self.intake,
            self.desk,
            self.presence,
            committed=self.pipeline.committed,
            run_url=lambda run_id: f"{self.url}/r/{run_id}" if self.url else "",
            changed=self.live.changed,
            clock=clock,
        )
        credentials, failures = Credentials(self.store, clock), FailedAttempts()
        hosts = settings.allowed_hosts
        self.api = api = self._application(credentials, failures)
        gate = Gate(api, credentials, allowed_hosts=hosts, failures=failures)
        self.idle = Idle(_SafeHeaders(gate))
        self.app = self.idle

    def _application(self, credentials: Credentials, failures: FailedAttempts) -> FastAPI:
        app = FastAPI(
            title="nanwatch", openapi_url=None, docs_url=None, redoc_url=None, lifespan=self._life
        )
        parts = {
            "store": self.store,
            "desk": self.desk,
            "credentials": credentials,
            "failures": failures,
            "clock": self.clock,
            "version": _version(),
            "tail": self.tail,
            "vitals": self.vitals,
            "views": self.views,
            "hub": self.hub,
            "live": self.live,
            "pipeline": self.pipeline,
            "gateway": self.gateway,
            "remove_run": self.remove,
            "notify_book": self.notifications.book,
            "rulebook": self.rulebook,
            "bench": self.bench,
            "sizes": self.sizes,
            "static_files": static.static_files(),
        }
        for name, part in parts.items():
            setattr(app.state, name, part)
        errors.install(app)
        notifications.install(app)
        rules.install(app)
        modules = (health, session, runs, series, incidents, events, commands, tokens, audit, rules)
        # The page last: it answers every other path.
        for module in (*modules, storage, export, live, notifications, gateway, http, static):
            app.include_router(module.router)
        return app

    @contextlib.asynccontextmanager
    async def _life(self, app: FastAPI) -> AsyncIterator[None]:
        self.intake.start()
        self.desk.start()
        self.pipeline.start()
        self.keeper.start()
        self.nightly.start()
        self.notifications.start()
        self.live.start()
        warming = asyncio.create_task(anyio.to_thread.run_sync(self._warm))
        try:
            # a server that says it is ready is quick; one whose database is not must take points
            await asyncio.wait({warming}, timeout=WARM_MOST_S)
            yield
        finally:
            self.live.stop()
            await asyncio.wait({warming}, timeout=WARM_MOST_S)
            await asyncio.to_thread(self.stop)

    def _warm(self) -> None:
        """The first chart of a restarted server need not wait for what can be made ready now."""
        try:
            self.history.warm()
            self.store.run("")
            self.store.series_of("")
            rehearse(self.store)
        except Exception as error:
            _log.warning("the first query will be slower", error=repr(error)[:300])

    def stop(self) -> None:
        """Commit and judge what has arrived, then let go of the data directory."""
        self.bench.close()
        self.sizes.close()
        self.intake.close()
        self.desk.close()
        self.pipeline.close()
        self.notifications.close()
        self.nightly.close()
        self.keeper.close()
        self.store.close()

    def page(self, path: str) -> str:
        """Address of a page as people reach it, for messages."""
        proxied = (host for host in self.settings.allowed_hosts if "://" in host)
        return (self.settings.public_url or next(proxied, self.url)).rstrip("/") + path

    def _busy(self) -> bool:
        """True while what trainings send piles up."""
        return self.intake.depth > BUSY_JOBS or self.pipeline.behind > BUSY_SHARE

    def remove(self, run_id: str, by: dict[str, str]) -> None:
        """Delete a run for good; its rows go in the background."""
        remove_run(self.store, run_id, by, self.clock())
        self.gateway.drop(run_id)
        self.pipeline.forget(run_id)
        self.tail.forget(run_id)
        self.vitals.forget(run_id)
        self.sizes.changed()
        self.nightly.wake()
        self.live.changed(run_id)

    def _safe_upto(self, run_id: str) -> int:
        """Journal rows that may become chunks: the rules and the ranks' combiner are done."""
        safe = self.pipeline.safe_upto(run_id)
        if len(self.store.ranks(run_id)) > 1:
            safe = min(safe, self.store.journal_end(run_id, keep=RANKS_KEEP_ROWS))
        return safe

    # --- what browsers are told ---------------------------------------------------------------

    def incident(self, incident: Incident) -> None:
        """An incident is new or has changed."""
        shown = self.views.incident(incident)
        frame = plain("incident", run=incident.run_id, incident=shown)
        self.hub.publish(incident.run_id, frame)
        self.hub.publish("wall", frame)
        self.live.changed(incident.run_id)
        self.notifications.wake()

    def record(self, stream: Stream, record: Record) -> None:
        """A mark, checkpoint or report has been stored."""
        run_id = stream.run_id
        if isinstance(record, Table | CommandResult):
            return
        if isinstance(record, Mark) and record.what == "coverage":
            self.live.changed(run_id)
            return
        event = event_json(record, stream.rank, self.clock())
        self.hub.publish(run_id, plain("event", run=run_id, **event))
        if isinstance(record, Forensics):
            for incident in self.views.explained(run_id, record.step):
                self.incident(incident)

    def command(self, command: Command) -> None:
        """A command is new or has changed."""
        shown = commands.command_json(command)
        self.hub.publish(command.run_id, plain("command", run=command.run_id, command=shown))


class _SafeHeaders:
    """Security headers on every HTTP answer, also on those of the gate."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = static.CSP
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers["cross-origin-opener-policy"] = "same-origin"
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, sending)


def _version() -> str:
    try:
        return version("nanwatch")
    except PackageNotFoundError:
        return "0"


def create_app(settings: Settings) -> Any:
    """The ASGI application; its parts start with the lifespan."""
    return Server(settings).app


@dataclass(frozen=True)
class Ready:
    """What a person needs once the server listens."""

    url: str
    port: int
    login_url: str
    ingest_token: str


class _Uvicorn(uvicorn.Server):
    """Tells clients to come back before connections are closed."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised again: the exit code is 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        asked = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in asked}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def watch_idleness(self) -> None:
        """End by ourselves after `idle_s` without use, if that is set."""

        def end() -> None:
            _log.warning("nobody has used this server for a while; it ends")
            self.should_exit = True

        if self._server.settings.idle_s > 0:
            settings = self._server.settings
            watching = self._server.idle.watch(settings.idle_s, settings.data_dir, end)
            self._watching = asyncio.create_task(watching)

    async def shutdown(self, sockets: list[sockets.socket] | None = None) -> None:
        self._server.gateway.shut()
        await super().shutdown(sockets)


def _end_at_once(reason: str) -> None:
    """After a failed sync nothing that we hold can be trusted: no acks, no clean end."""
    _log.critical("the server ends: start it again when the disk is well", reason=reason)
    os._exit(EXIT_DISK_FAILED)


def run_server(
    settings: Settings,
    *,
    on_ready: Callable[[Ready], None] = lambda ready: None,
    handle: Callable[[uvicorn.Server], None] = lambda server: None,
) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once the port listens.

    `handle` is given the server before it starts, for programs that stop it themselves
    (`should_exit = True`).
    """
    logs.configure()
    server = Server(settings)
    server.store.on_failure = _end_at_once
    try:
        listener = _listen(settings.host, settings.port)
    except BaseException:
        server.store.close()
        raise
    port = listener.getsockname()[1]
    scheme = "https" if settings.ssl_certfile else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    name = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else host
    server.url = f"{scheme}://{name}:{port}"
    now = time.time()
    token = ensure_local_token(server.store, settings.data_dir, "ingest", now)
    admin = ensure_local_token(server.store, settings.data_dir, "admin", now)
    write_server_file(settings.data_dir, server.url, token, admin)
    link = login_url(server.url, new_login_code(server.store, "admin", now))
    config = uvicorn.Config(
        server.app,
        ws="websockets-sansio",
        ws_max_size=FRAME_BYTES_MAX,
        ws_per_message_deflate=False,
        log_config=None,  # the process's own logging is left alone; warnings go to stderr
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
    )
    web = _Uvicorn(config, server)
    handle(web)
    if threading.current_thread() is threading.main_thread():  # else the process is not ours
        _settle_in()
    # uvloop where there is one: half the cost of a message.
    with listener, asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(web, listener, lambda: on_ready(Ready(server.url, port, link, token))))


def _settle_in() -> None:
    """Settings of the interpreter for many threads and many small batches."""
    keep_pages()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()  # modules and tables are here to stay
    gc.set_threshold(*GC_THRESHOLD)


async def _serve(web: _Uvicorn, listener: sockets.socket, ready: Callable[[], None]) -> None:
    serving = asyncio.create_task(web.serve([listener]))
    web.watch_idleness()
    while not web.started and not serving.done():
        await asyncio.sleep(0.01)
    if web.started:
        ready()
    await serving


def _listen(host: str, port: int) -> sockets.socket:
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    listener = sockets.socket(family, sockets.SOCK_STREAM)
    listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    # Connections inherit it. Without it a small answer waits 40 ms for the other side's ack.
    listener.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
