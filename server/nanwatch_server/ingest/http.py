"""Points over plain HTTP: frames of wire v1 in one body, or JSON lines from a shell script.

The same checks, group commit and exactly-once marks as the socket; the answer comes after COMMIT.
No commands this way: who wants to be steered keeps a socket.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
from dataclasses import dataclass, field
from typing import Annotated, Any
from weakref import WeakValueDictionary

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse

from nanwatch.contract import frames as f
from nanwatch.contract import limits, lines
from nanwatch_server.auth.gate import principal_of, requires
from nanwatch_server.auth.rules import Body
from nanwatch_server.domain.models import Principal
from nanwatch_server.ingest import checks
from nanwatch_server.ingest.connection import Connection, ProtocolError
from nanwatch_server.ingest.gateway import Gateway
from nanwatch_server.ingest.intake import BUSY_JOBS

router = APIRouter()

FRAMES_PATH = limits.INGEST_PATH + "/frames"
LINES_PATH = limits.INGEST_PATH + "/lines"
COMMIT_TIMEOUT_S = 15.0
LINES_MAX = 20_000
DECLARED_AT_ONCE = 500
BATCH_BYTES = limits.FRAME_BYTES_MAX // 2
APPEND_EPOCH = 0
"""Stream of lines that come without epoch or key: each is put behind the last."""

FRAMES_BODY = Body(
    frozenset({"application/x-msgpack", "application/octet-stream"}), 8 << 20, timeout_s=30.0
)
LINES_BODY = Body(
    frozenset({"application/x-ndjson", "application/jsonl", "application/json", "text/plain"}),
    4 << 20,
    timeout_s=30.0,
)
_LENGTH = struct.Struct("<I")
_STATUS = {
    limits.CLOSE_PROTOCOL: 400,
    limits.CLOSE_FORBIDDEN: 403,
    limits.CLOSE_UPGRADE: 400,
    limits.CLOSE_TOO_MANY: 503,
}


class Unfit(Exception):
    """The request is refused with this status, code and sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@router.post(FRAMES_PATH)
@requires("ingest", FRAMES_BODY)
async def frames(request: Request) -> JSONResponse:
    """`hello`, then declarations, batches, gaps, beats and `bye`, each after its length (u32)."""
    gateway: Gateway = request.app.state.gateway
    try:
        came = split(await request.body())
        hello, *rest = came if came else [b""]
        post = await _opened(gateway, principal_of(request.scope), _decoded(hello))
        for data in rest:
            await post.frame(data)
        return JSONResponse(await post.settled())
    except (Unfit, ProtocolError, f.FrameError) as error:
        return _refused(error)


@router.post(LINES_PATH)
@requires("ingest", LINES_BODY)
async def json_lines(
    request: Request,
    project: Annotated[str, Query(max_length=limits.NAME_CHARS_MAX)],
    run: Annotated[str, Query(max_length=limits.NAME_CHARS_MAX)],
    epoch: Annotated[int | None, Query(ge=1, le=checks.EPOCH_MAX)] = None,
    first: Annotated[int, Query(ge=0, le=checks.SEQ_MAX)] = 0,
    key: Annotated[str, Header(alias="Idempotency-Key", max_length=200)] = "",
) -> JSONResponse:
    """Canonical JSON lines of one run, named or by its id. All lines are stored, or none."""
    gateway: Gateway = request.app.state.gateway
    who = principal_of(request.scope)
    try:
        parsed = await asyncio.to_thread(parse_body, await request.body())
        if epoch is None and not key:
            run_id = lines.run_id_of(project, run)
            lock = _appending.setdefault(run_id, asyncio.Lock())
            async with lock:  # two at once would take the same sequence numbers
                return await _stored(gateway, who, project, run, APPEND_EPOCH, None, parsed)
        number = epoch if epoch is not None else lines.epoch_of(key)
        return await _stored(
            gateway, who, project, run, number, first if epoch is not None else 0, parsed
        )
    except (Unfit, ProtocolError, lines.LineError) as error:
        return _refused(error)


_appending: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


async def _stored(
    gateway: Gateway,
    who: Principal,
    project: str,
    run: str,
    epoch: int,
    first: int | None,
    parsed: list[lines.Points | lines.Event],
) -> JSONResponse:
    now = gateway.now()
    hello = await _hello_of_lines(gateway, project, run, epoch, parsed, now)
    post = await _opened(gateway, who, hello)
    begin = post.next_scalar if first is None else first
    if begin > post.next_scalar:
        raise Unfit(
            409, "hole", f"expected lines from number {post.next_scalar} of this epoch, got {begin}"
        )
    known = min(max(post.next_scalar - begin, 0), len(parsed))
    for data in await asyncio.to_thread(frames_of, parsed, begin, now):
        await post.frame(data)
    last = begin + len(parsed) - 1
    if any(isinstance(one, lines.Event) and one.event == "end" for one in parsed):
        await post.frame(f.encode(f.Bye(events=-1, scalars=last, reason="finished")))
    answer = await post.settled()
    told = {"lines": len(parsed), "already_stored": known, "epoch": epoch, "next": last + 1}
    return JSONResponse(answer | told)


# --- one request as a connection ---------------------------------------------------------------


@dataclass
class Post:
    """A connection that lives for one request."""

    gateway: Gateway
    connection: Connection
    url: str
    next_scalar: int
    rejected: list[dict[str, Any]] = field(default_factory=list)

    async def frame(self, data: bytes) -> None:
        """Take one frame of the body in, as the socket would. Raises `ProtocolError`."""
        if len(data) > limits.FRAME_BYTES_MAX:
            raise Unfit(
                413,
                "too_large",
                f"expected frames of at most {limits.FRAME_BYTES_MAX} bytes, got {len(data)}",
            )
        await self.gateway.take(self.connection, data)
        self._drain()

    def _drain(self) -> None:
        while (item := self.connection.outbox.take()) is not None:
            if isinstance(item, f.Reject):
                self.rejected.append(
                    {name: getattr(item, name) for name in f.Reject.__struct_fields__}
                )
            elif isinstance(item, tuple) and item[0] != limits.CLOSE_TOO_MANY:
                # That one only says that not all answers fit: the marks tell what is stored.
                raise ProtocolError(*item)

    async def settled(self) -> dict[str, Any]:
        """Wait until everything is durable; what is stored. Raises `Unfit` if it takes too long."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                high = await self.gateway.settled(self.connection)
        except TimeoutError:
            raise Unfit(
                503,
                "not_stored",
                f"the database could not be written within {COMMIT_TIMEOUT_S:.0f} s: send it "
                "again with the same epoch and numbers, what is stored already is ignored",
            ) from None
        self._drain()
        run_id = self.connection.run_id
        return {"run": run_id, "url": self.url, **high, "rejected": self.rejected}


async def _opened(gateway: Gateway, who: Principal, hello: f.Hello) -> Post:
    if gateway.depth >= BUSY_JOBS:
        raise Unfit(503, "busy", "the server has much to write: send it again in a second")
    connection = gateway.connection(gateway.checked(hello, who))
    welcome = await gateway.opened(connection)
    return Post(gateway, connection, welcome.url, welcome.scalars + 1)


def _decoded(data: bytes) -> f.Hello:
    hello = f.decode_client(data)
    if not isinstance(hello, f.Hello):
        raise Unfit(
            400, "no_hello", f"expected hello as the first frame, got {type(hello).__name__}"
        )
    return hello


def split(body: bytes) -> list[bytes]:
    """Frames of a body, each after its length. Raises `Unfit`."""
    found: list[bytes] = []
    position = 0
    while position < len(body):
        if position + _LENGTH.size > len(body):
            raise Unfit(400, "cut", f"frame {len(found) + 1}: expected a length of 4 bytes")
        (size,) = _LENGTH.unpack_from(body, position)
        position += _LENGTH.size
        if position + size > len(body):
            left = len(body) - position
            message = f"frame {len(found) + 1}: expected {size} bytes, the body has {left} left"
            raise Unfit(400, "cut", message)
        found.append(body[position : position + size])
        position += size
    return found


def _refused(error: Exception) -> JSONResponse:
    status, code = 400, "bad_frame"
    headers: dict[str, str] = {}
    if isinstance(error, Unfit):
        status, code = error.status, error.code
        if status == 503:
            headers["Retry-After"] = "1"
    elif isinstance(error, ProtocolError):
        status = _STATUS.get(error.code, 400)
        code = {403: "forbidden", 503: "busy"}.get(status, "protocol")
        if "a hole" in str(error):
            status, code = 409, "hole"
    elif isinstance(error, lines.LineError):
        code = "bad_line"
    return JSONResponse(
        {"error": {"code": code, "message": str(error)}}, status_code=status, headers=headers
    )


# --- lines -------------------------------------------------------------------------------------


def parse_body(body: bytes) -> list[lines.Points | lines.Event]:
    """Every line, or `LineError` for the first that is not canonical: then none is stored."""
    parsed: list[lines.Points | lines.Event] = []
    for number, raw in enumerate(body.split(b"\n"), 1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise lines.LineError(number, f"expected UTF-8, got {error}") from None
        found = lines.parse(text, number)
        if found is not None:
            if isinstance(found, lines.Points) and found.rank:
                what = "expected lines of rank 0 (`nanwatch import` takes those of others)"
                raise lines.LineError(number, f"{what}, got rank {found.rank}")
            parsed.append(found)
            if len(parsed) > LINES_MAX:
                raise Unfit(413, "too_large", f"expected at most {LINES_MAX} lines in one body")
    if not parsed:
        raise Unfit(400, "empty", "expected at least one JSON line, got none")
    return parsed


async def _hello_of_lines(
    gateway: Gateway,
    project: str,
    run: str,
    epoch: int,
    parsed: list[lines.Points | lines.Event],
    now: float,
) -> f.Hello:
    run_id = lines.run_id_of(project, run)
    config: dict[str, str] = {}
    for one in parsed:
        if isinstance(one, lines.Event) and one.event == "config":
            config |= one.data
    times = [one.time for one in parsed if one.time is not None]
    known = await gateway.knows(run_id)
    return f.Hello(
        proto=[limits.PROTOCOL_VERSION],
        sdk="lines",
        run=f.RunInfo(
            id=run_id,
            project=project,
            name=run,
            # Lines for a run that exists never take it from a process that is connected.
            started_at=0.0 if known else min(times, default=now),
            config=config,
        ),
        rank=0,
        world=1,
        epoch=epoch,
        wall=now,
        events=f.Span(0, -1),
        scalars=f.Span(0, -1),
    )


def frames_of(parsed: list[lines.Points | lines.Event], first: int, now: float) -> list[bytes]:
    """Declarations and batches, each well below a frame's limit."""
    table = Tables(now)
    records = [table.record(one) for one in parsed]
    declared = table.declarations
    found = [
        f.encode(f.Declare(series=declared[low : low + DECLARED_AT_ONCE]))
        for low in range(0, len(declared), DECLARED_AT_ONCE)
    ]
    some: list[f.Record] = []
    size = 0
    for record in records:
        more = _bytes_of(record)
        if some and (size + more > BATCH_BYTES or len(some) == limits.BATCH_RECORDS_MAX):
            found.append(f.encode(f.Batch(lane="scalars", first=first, records=some)))
            first, some, size = first + len(some), [], 0
        some.append(record)
        size += more
    return [*found, f.encode(f.Batch(lane="scalars", first=first, records=some))]


def _bytes_of(record: f.Record) -> int:
    """About what a record takes in a frame, rather too much than too little."""
    if isinstance(record, f.Table):
        return len(record.values) + 9 * len(record.ids) + 64
    data = record.data if isinstance(record, f.Mark) else {}
    return 4_096 + sum(4 * (len(key) + len(value)) for key, value in data.items())


class Tables:
    """Turns lines into records; one line is one record, so that lines can be numbered."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._step = 0
        self._ids: dict[tuple[str, str, str, str], int] = {}

    @property
    def declarations(self) -> list[f.SeriesDecl]:
        """Every series met so far."""
        return [
            f.SeriesDecl(number, kind, scope, layer, stage)
            for (kind, scope, layer, stage), number in self._ids.items()
        ]

    def record(self, one: lines.Points | lines.Event) -> f.Record:
        """The record of a line."""
        time = self._now if one.time is None else one.time
        if one.step is not None:
            self._step = one.step
        if isinstance(one, lines.Event):
            what = lines.EVENTS[one.event]
            return f.Mark(what=what, step=self._step, time=time, text=one.text, data=one.data)
        return f.Table(
            ids=[self._id(key, one.stage) for key in one.values],
            steps=struct.pack("<q", one.step),
            times=struct.pack("<d", time),
            values=struct.pack(f"<{len(one.values)}d", *one.values.values()),
        )

    def _id(self, key: tuple[str, str, str], stage: str) -> int:
        # The same id in every request of an epoch: bound to the name, not to the order.
        name = (*key, stage)
        if name not in self._ids:
            text = msgspec.msgpack.encode(name)
            self._ids[name] = int.from_bytes(hashlib.sha256(text).digest()[:6])
        return self._ids[name]
