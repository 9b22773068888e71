"""The ingest socket: handshake, fencing of older processes, frames to `Connection` and back."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from nanwatch.contract import limits
from nanwatch.contract.frames import (
    LANES,
    Accepted,
    Batch,
    Beat,
    Bye,
    Declare,
    FrameError,
    Gap,
    Hello,
    Reject,
    Welcome,
    decode_client,
    encode,
)
from nanwatch_server.auth.gate import principal_of, requires
from nanwatch_server.domain.models import Principal, Series
from nanwatch_server.domain.ports import CommandDesk, Store, UnitOfWork
from nanwatch_server.ingest import checks
from nanwatch_server.ingest.connection import Connection, ProtocolError
from nanwatch_server.ingest.intake import Intake, Job
from nanwatch_server.ingest.outbox import Postbox
from nanwatch_server.ingest.shards import ShardBook
from nanwatch_server.live.presence import PresenceBook
from nanwatch_server.store.base import RunRemovedError
from nanwatch_server.store.replay import Committed

_log = structlog.get_logger()

router = APIRouter()

CONNECTIONS_MAX = 2048
FRAMES_AT_ONCE = 8
"""Frames of one connection that are read before others have their turn."""
REMOVED = "this run was deleted from this server"


@router.websocket(limits.INGEST_PATH)
@requires("ingest")
async def ingest(socket: WebSocket) -> None:
    """The route; the work is done by the gateway that `app` made."""
    await socket.app.state.gateway.serve(socket)


class Gateway:
    """Serves the connections of all trainings, in the event loop."""

    def __init__(
        self,
        store: Store,
        intake: Intake,
        desk: CommandDesk,
        presence: PresenceBook,
        *,
        committed: Callable[[Committed], None],
        run_url: Callable[[str], str] = lambda run_id: "",
        changed: Callable[[str], None] = lambda run_id: None,
        clock: Callable[[], float] = time.time,
        handshake_s: float = limits.HANDSHAKE_TIMEOUT_S,
    ) -> None:
        self._store, self._intake, self._desk, self._presence = store, intake, desk, presence
        self._committed, self._run_url, self._changed = committed, run_url, changed
        self._clock, self._handshake_s = clock, handshake_s
        self._live: dict[tuple[str, int], Connection] = {}
        self._open: set[Connection] = set()
        self._shards = ShardBook(store)
        self._postbox: Postbox | None = None

    def shut(self) -> None:
        """Ask all clients to come back later (the server stops)."""
        for connection in list(self._open):
            connection.shut(1012, "the server stops")

    def drop(self, run_id: str) -> None:
        """The run was deleted: its connections end. Safe from any thread."""
        for connection in list(self._open):
            if connection.run_id == run_id:
                connection.shut(limits.CLOSE_FORBIDDEN, REMOVED)

    async def serve(self, socket: WebSocket) -> None:
        """One connection from accept to close."""
        principal = principal_of(socket.scope)
        offered = limits.PROTOCOL in socket.scope.get("subprotocols", ())
        await socket.accept(subprotocol=limits.PROTOCOL if offered else None)
        try:
            if not offered:
                reason = f"expected subprotocol {limits.PROTOCOL}"
                raise ProtocolError(limits.CLOSE_UPGRADE, reason)
            if len(self._open) >= CONNECTIONS_MAX:
                raise ProtocolError(limits.CLOSE_TOO_MANY, "too many connections")
            hello = await self._hello(socket, principal)
            await self._session(socket, self.connection(hello))
        except ProtocolError as error:
            _log.info("ingest connection refused", code=error.code, reason=str(error))
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close(error.code, str(error)[:120])
        except WebSocketDisconnect:
            pass

    async def _hello(self, socket: WebSocket, principal: Principal) -> Hello:
        try:
            async with asyncio.timeout(self._handshake_s):
                data = await _receive(socket)
            hello = decode_client(data)
        except TimeoutError as error:
            raise ProtocolError(limits.CLOSE_TIMEOUT, "expected hello within 5 s") from error
        except FrameError as error:
            raise ProtocolError(limits.CLOSE_PROTOCOL, str(error)) from error
        if not isinstance(hello, Hello):
            raise ProtocolError(limits.CLOSE_PROTOCOL, "expected hello as the first frame")
        return self.checked(hello, principal)

    # --- also for requests over HTTP ------------------------------------------------------------

    def now(self) -> float:
        """Server wall clock, seconds since 1970."""
        return self._clock()

    @property
    def depth(self) -> int:
        """Jobs that wait for the database."""
        return self._intake.depth

    async def knows(self, run_id: str) -> bool:
        """True if the run is stored."""
        return await asyncio.to_thread(self._store.run, run_id) is not None

    def connection(self, hello: Hello) -> Connection:
        """The state of one stream, as long as somebody sends."""
        return Connection(
            hello,
            intake=self._intake,
            desk=self._desk,
            committed=self._committed,
            clock=self._clock,
            shards=self._shards,
            postbox=self._postbox_here(),
        )

    def _postbox_here(self) -> Postbox:
        if self._postbox is None:
            self._postbox = Postbox(asyncio.get_running_loop())
        return self._postbox

    async def opened(self, connection: Connection) -> Welcome:
        """Register a stream that no command can reach. Raises `ProtocolError`."""
        return await self._open_stream(connection)

    async def take(self, connection: Connection, data: bytes) -> None:
        """One frame of a stream. Raises `ProtocolError`."""
        try:
            frame = decode_client(data)
        except FrameError as error:
            await self._odd(connection, data, error)
        else:
            await self._frame(connection, frame, data)
        await connection.room()

    async def settled(self, connection: Connection) -> dict[str, int]:
        """High-water marks once everything that was taken is durable or refused."""
        loop = asyncio.get_running_loop()
        connection.touch()
        done: asyncio.Future[dict[str, int]] = loop.create_future()

        def settle(method: str, value: object) -> None:
            loop.call_soon_threadsafe(lambda: done.done() or getattr(done, method)(value))

        def marks(uow: UnitOfWork) -> dict[str, int]:
            return {lane: uow.high_water(connection.stream, lane) for lane in LANES}

        self._intake.submit(
            Job(
                marks,
                lambda high: settle("set_result", high),
                lambda error: settle("set_exception", error),
            )
        )
        high = await done
        self._changed(connection.run_id)
        return high

    def checked(self, hello: Hello, principal: Principal) -> Hello:
        """The hello with tidy names, if this client may send it. Raises `ProtocolError`."""
        if limits.PROTOCOL_VERSION not in hello.proto:
            raise ProtocolError(
                limits.CLOSE_UPGRADE, f"expected protocol 1 among {hello.proto[:8]}"
            )
        problem = checks.hello_problem(hello)
        if problem is not None:
            raise ProtocolError(limits.CLOSE_PROTOCOL, problem)
        hello = msgspec.structs.replace(hello, run=checks.tidy_info(hello.run))
        if principal.project and principal.project != hello.run.project:
            raise ProtocolError(
                limits.CLOSE_FORBIDDEN, f"this token may not write to {hello.run.project}"
            )
        return hello

    async def _session(self, socket: WebSocket, connection: Connection) -> None:
        welcome = await self._open_stream(connection)
        leads = connection.live and connection.stream.rank == 0
        sender: asyncio.Task[None] | None = None
        self._enter(connection)
        try:
            await socket.send_bytes(encode(welcome))
            sender = asyncio.create_task(self._send(socket, connection))
            if leads:
                await asyncio.to_thread(self._desk.run_connected, connection.run_id, connection)
            self._changed(connection.run_id)
            await self._read(socket, connection)
        finally:
            if sender is not None:
                sender.cancel()
            self._leave(connection)
            if leads:
                await asyncio.to_thread(self._desk.run_gone, connection.run_id, connection)

    def _enter(self, connection: Connection) -> None:
        if connection.live:
            place = (connection.run_id, connection.stream.rank)
            older = self._live.get(place)
            self._live[place] = connection
            if older is not None:
                older.shut(limits.CLOSE_FENCED, "a newer process of this run has connected")
        self._open.add(connection)
        self._presence.connected(connection.run_id, self._clock(), connection.stream.rank)

    def _leave(self, connection: Connection) -> None:
        place = (connection.run_id, connection.stream.rank)
        self._open.discard(connection)
        connection.touch()
        if self._live.get(place) is connection:
            del self._live[place]
        self._presence.gone(connection.run_id, self._clock(), connection.stream.rank)
        self._changed(connection.run_id)

    def _register(self, connection: Connection, uow: UnitOfWork) -> dict[str, int] | None:
        """Write the run and its epoch down: high-water marks, or None if it is another's run.

        What other connections wrote in the same transaction is seen only through `uow`.
        """
        hello, stream, now = connection.hello, connection.stream, self._clock()
        known = uow.run(stream.run_id)
        if known is not None and known.project != hello.run.project:
            return None
        connection.live = uow.open_epoch(
            stream,
            started_at=hello.run.started_at,
            parent_epoch=hello.parent_epoch,
            now=now,
            world=hello.world,
            generation=hello.generation,
        )
        if connection.live and stream.rank == 0:
            control = None if hello.control is None else msgspec.to_builtins(hello.control)
            uow.upsert_run(hello.run, control, now)
        elif known is None:
            uow.upsert_run(hello.run, None, now)
        if connection.live and hello.world > 1:
            host = hello.run.facts.get("host", "")
            uow.put_rank(stream, world=hello.world, host=host, now=now)
        return {lane: uow.high_water(stream, lane) for lane in LANES}

    async def _open_stream(self, connection: Connection) -> Welcome:
        """Register the connection after COMMIT of what came before; learn where to resume."""
        opened: asyncio.Future = asyncio.get_running_loop().create_future()
        loop, stream = asyncio.get_running_loop(), connection.stream

        def settle(method: str, value: object) -> None:
            def call() -> None:
                if not opened.done():
                    getattr(opened, method)(value)

            loop.call_soon_threadsafe(call)

        self._intake.submit(
            Job(
                partial(self._register, connection),
                lambda high: settle("set_result", high),
                lambda error: settle("set_exception", error),
            )
        )
        try:
            high = await opened
        except RunRemovedError as error:
            raise ProtocolError(limits.CLOSE_FORBIDDEN, REMOVED) from error
        except Exception as error:
            raise ProtocolError(limits.CLOSE_PROTOCOL, "the run could not be stored") from error
        if high is None:
            message = f"this run is not of project {connection.hello.run.project}"
            raise ProtocolError(limits.CLOSE_FORBIDDEN, message)
        series: dict[int, Series] = await asyncio.to_thread(self._store.declarations, stream)
        connection.resume(high, series)
        return Welcome(
            proto=limits.PROTOCOL_VERSION,
            session=uuid.uuid4().hex,
            events=high["events"],
            scalars=high["scalars"],
            credit=connection.credit(),
            wall=self._clock(),
            url=self._run_url(stream.run_id),
        )

    async def _read(self, socket: WebSocket, connection: Connection) -> None:
        for number in itertools.count(1):
            await self.take(connection, await _receive(socket))
            if number % FRAMES_AT_ONCE == 0:
                await asyncio.sleep(0)  # frames that wait already are read without a pause

    async def _frame(self, connection: Connection, frame: object, data: bytes) -> None:
        if isinstance(frame, Batch):
            await connection.batch(frame, data)
            rank = connection.stream.rank
            self._presence.stepped(connection.run_id, connection.last_step, self._clock(), rank)
        elif isinstance(frame, Beat):
            self._beat(connection, frame)
        elif isinstance(frame, Declare):
            connection.declare(frame)
            self._changed(connection.run_id)
        elif isinstance(frame, Gap):
            connection.gap(frame)
        elif isinstance(frame, Accepted):
            if connection.live:
                self._desk.accepted(connection.run_id, frame.id, frame.nonce)
        elif isinstance(frame, Bye):
            connection.bye(frame)
        else:
            raise ProtocolError(limits.CLOSE_PROTOCOL, "hello may come once only")

    def _beat(self, connection: Connection, beat: Beat) -> None:
        if not connection.live or not -1 <= beat.step <= limits.STEP_MAX:
            return
        connection.last_step = max(connection.last_step, beat.step)
        self._presence.beat(connection.run_id, beat, self._clock(), connection.stream.rank)
        connection.touch()
        self._changed(connection.run_id)

    async def _odd(self, connection: Connection, data: bytes, error: FrameError) -> None:
        """Something wire v1 cannot read: bad records and unknown frames are refused alone."""
        odd = checks.loosely(data)
        if isinstance(odd, checks.Loose):
            await connection.loose(odd)
        elif isinstance(odd, str) and odd not in _KNOWN:
            message = f"unknown frame {odd[:64]!r}"
            connection.send(
                Reject(lane="events", first=-1, last=-1, code="unsupported", message=message)
            )
        else:
            raise ProtocolError(limits.CLOSE_PROTOCOL, str(error))

    async def _send(self, socket: WebSocket, connection: Connection) -> None:
        with suppress(RuntimeError, WebSocketDisconnect):
            while True:
                item = await connection.outbox.get()
                if isinstance(item, tuple):
                    await socket.close(*item)
                    return
                await socket.send_bytes(encode(item))


_KNOWN = frozenset({"hello", "declare", "batch", "gap", "beat", "accepted", "bye"})


async def _receive(socket: WebSocket) -> bytes:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    data = message.get("bytes")
    if data is None:
        raise ProtocolError(limits.CLOSE_PROTOCOL, "expected binary messages")
    return data
