"""Frames of wire v1 (msgpack by msgspec) around raw little-endian blocks.

A frame is one WebSocket message. Metric values live only in the blocks of a `Table`, so that
NaN, infinities and -0.0 arrive bit for bit. Unknown fields are ignored by both sides; an unknown
frame or record type is answered by `Reject(code="unsupported")`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from nanwatch.contract.commands import ControlOffer

Lane = Literal["events", "scalars"]
LANES: tuple[Lane, ...] = ("events", "scalars")


class _Base(msgspec.Struct, tag_field="t", kw_only=True, omit_defaults=True):
    """Common settings: tagged by field `t`, unknown fields ignored."""


class SeriesDecl(msgspec.Struct, array_like=True):
    """Declares a series once; afterwards its `id` stands for it within (run, rank, epoch)."""

    id: int
    kind: str
    scope: str = ""
    layer: str = ""
    """Layer or parameter name; for `custom` the name the user gave."""
    stage: str = "train"


class RunInfo(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a run says of itself at `hello`."""

    id: str
    project: str
    name: str
    started_at: float
    """Client wall clock, seconds since 1970."""
    config: dict[str, str] = {}
    """Flattened user configuration; values as text so that any type travels."""
    facts: dict[str, str] = {}
    """Host, pid, script, Python and torch version, scopes."""


class Span(msgspec.Struct, array_like=True):
    """Sequence numbers a client still holds: `first` ≤ seq ≤ `last`; empty if last < first."""

    first: int
    last: int


# --- records: the contents of batches, numbered one by one within their lane -------------------


class Table(_Base, tag="table"):
    """Points of k series that share n steps. Blocks are little-endian and contiguous."""

    ids: list[int]
    steps: bytes
    """i64[n]: attempt numbers."""
    times: bytes
    """f64[n]: client wall clock, seconds since 1970."""
    values: bytes
    """f64[k, n] or f32[k, n], row k holds the series `ids[k]`."""
    dtype: Literal["f8", "f4"] = "f8"


class Mark(_Base, tag="mark"):
    """A fact that rules consume in order with the points."""

    what: Literal["config", "task", "eval", "fit", "resume", "note", "coverage"]
    step: int
    time: float
    text: str = ""
    data: dict[str, str] = {}


class NonFinite(_Base, tag="nonfinite"):
    """The first non-finite value of an episode, found by the SDK."""

    step: int
    time: float
    where: Literal["loss", "gradient", "parameter", "buffer", "moment", "watched", "logged"]
    scope: str = ""
    nan: int = 0
    inf: int = 0
    total: int = 0
    """Tensors looked at; `nan` + `inf` of them were bad."""
    layers: list[str] = []
    """Bad layers in parameter order, at most 32; all of them if `nan + inf == total`."""


class Forensics(_Base, tag="forensics"):
    """Where a non-finite value came from, found by the SDK after the fact or while tracing."""

    step: int
    time: float
    trigger: Literal["loss", "gradient", "parameter", "skips", "command", "exception"]
    scope: str = ""
    verdict: Literal["layer", "all_at_once", "loss", "not_found"] = "not_found"
    """`layer`: one module came first; `all_at_once`: no order can be told; `loss`: every module
    is finite, the loss is not."""
    cause: Literal["nan", "overflow", "unknown"] = "unknown"
    """`overflow`: infinities came before the first NaN."""
    first_forward: str = ""
    """First module, in the order of the forward pass, whose output was not finite."""
    first_backward: str = ""
    """First module, in the order of the backward pass, whose gradient was not finite."""
    producers: list[str] = []
    """Modules with finite inputs and a non-finite output, at most 32."""
    propagators: list[str] = []
    """Modules that only passed on what came in, at most 32."""
    text: str = ""
    """The same for a person, a few sentences."""
    recorder_path: str = ""
    """Flight recorder file on the training machine; empty if none was written."""
    checkpoint_path: str = ""
    """Checkpoint saved before the poisoned update; empty if none was."""
    facts: dict[str, str] = {}
    """Batch index, RNG state, dtype, autocast, loss scale: whatever was known."""
    tracing_steps: int = 0
    """Attempts that are traced from here on."""


class CheckpointSaved(_Base, tag="checkpoint"):
    """A checkpoint lies on the training machine."""

    step: int
    time: float
    path: str
    bytes: int
    sha256: str
    command_id: str = ""


class CommandResult(_Base, tag="result"):
    """What became of a command, said by the run. Final for the run."""

    id: str
    state: Literal["applied", "rejected", "failed", "expired"]
    time: float
    step: int = -1
    """Attempt at whose close it was applied."""
    message: str = ""
    before: dict[str, float] = {}
    """For LR commands: learning rate per scope (and group) before."""
    after: dict[str, float] = {}
    factor: float = 1.0
    """LR factor on the schedule after the command, of the first scope it touched."""
    factors: dict[str, float] = {}
    """The same by scope."""


class Problem(_Base, tag="problem"):
    """An internal error of the SDK: logged once per kind, counted, shown on the page."""

    time: float
    kind: str
    count: int
    text: str = ""


Record = Table | Mark | NonFinite | Forensics | CheckpointSaved | CommandResult | Problem

# --- client to server --------------------------------------------------------------------------


class Hello(_Base, tag="hello"):
    """First frame of a connection."""

    proto: list[int]
    sdk: str
    run: RunInfo
    rank: int
    world: int
    epoch: int
    """Random 53-bit number: one process lifetime."""
    wall: float
    events: Span
    scalars: Span
    parent_epoch: int = -1
    generation: int = 0
    """How often the whole group of ranks was restarted within the run."""
    control: ControlOffer | None = None


class Declare(_Base, tag="declare"):
    """Series declarations. Idempotent; comes before the first batch that uses them."""

    series: list[SeriesDecl]


class Batch(_Base, tag="batch"):
    """Records with the sequence numbers first, first + 1, …"""

    lane: Lane
    first: int
    records: list[Record]


class Gap(_Base, tag="gap"):
    """Records that will never come, so that `upto` can pass over them."""

    lane: Lane
    first: int
    last: int
    reason: str
    points: int = 0


class Beat(_Base, tag="beat"):
    """Alive. Sent every `BEAT_INTERVAL_S`, never stored as a point."""

    step: int
    wall: float
    queued: int = 0
    """Records not acknowledged yet."""
    dropped: dict[str, int] = {}
    """Points dropped so far, by reason."""
    overhead: float = 0.0
    """Share of the step time spent inside the SDK."""


class Accepted(_Base, tag="accepted"):
    """The run would apply the command; `nonce` must come back in `Go`."""

    id: str
    nonce: int


class Bye(_Base, tag="bye"):
    """The run is over, or the process lets go of the connection."""

    events: int
    """Last sequence number of the lane; the run has ended only when all up to it are stored."""
    scalars: int
    reason: str = ""
    exit_code: int | None = None


ClientFrame = Hello | Declare | Batch | Gap | Beat | Accepted | Bye

# --- server to client --------------------------------------------------------------------------


class Welcome(_Base, tag="welcome"):
    """Answer to `Hello`: resume at ack + 1."""

    proto: int
    session: str
    events: int
    """High-water mark of the lane; -1 if nothing is stored."""
    scalars: int
    credit: int
    wall: float
    interval: float = 0.05
    """Seconds between two frames the server wishes for."""
    url: str = ""
    """Page of this run, for the client to print."""


class Ack(_Base, tag="ack"):
    """Everything up to `upto` is durable. Sent only after COMMIT."""

    lane: Lane
    upto: int
    credit: int


class Reject(_Base, tag="reject"):
    """Permanent: these records are not stored; drop them, count them, never send them again."""

    lane: Lane
    first: int
    last: int
    code: str
    message: str


class Slow(_Base, tag="slow"):
    """Temporary: keep, and send again after `retry`."""

    credit: int
    retry: float
    interval: float = 0.5


class Command(_Base, tag="command"):
    """A command for the run. Nothing happens before `Go`."""

    id: str
    kind: str
    args: dict[str, float | str | bool]
    expires_in: float
    """Seconds left; counted down by the client from arrival, checked again when applied."""
    actor: str = ""


class Go(_Base, tag="go"):
    """Arms an accepted command."""

    id: str
    nonce: int
    expires_in: float = 0.0
    """Seconds left when it was sent; shortens what the client counts down. 0: not said."""


class Revoke(_Base, tag="revoke"):
    """Cancelled or superseded before it was armed."""

    id: str


ServerFrame = Welcome | Ack | Reject | Slow | Command | Go | Revoke

_encoder = msgspec.msgpack.Encoder()
_client_decoder = msgspec.msgpack.Decoder(ClientFrame)
_server_decoder = msgspec.msgpack.Decoder(ServerFrame)


class FrameError(ValueError):
    """A message is not a frame of wire v1; the text says what was expected and what came."""


def encode(frame: ClientFrame | ServerFrame) -> bytes:
    """One frame as bytes."""
    try:
        return _encoder.encode(frame)
    except UnicodeEncodeError:
        # File names and arguments that are not UTF-8 reach Python as half surrogate pairs.
        return _encoder.encode(_in_whole_characters(msgspec.to_builtins(frame, builtin_types=_RAW)))


_RAW = (bytes, bytearray, memoryview)


def _in_whole_characters(value: Any) -> Any:
    """The same with `\\udcff` written out wherever a text cannot be encoded."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_in_whole_characters(k): _in_whole_characters(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_in_whole_characters(one) for one in value]
    return value


def decode_client(data: bytes | memoryview) -> ClientFrame:
    """A frame sent by a client. Raises `FrameError`."""
    try:
        return _client_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"expected a client frame of wire v1: {error}") from error


def decode_server(data: bytes | memoryview) -> ServerFrame:
    """A frame sent by the server. Raises `FrameError`."""
    try:
        return _server_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FrameError(f"expected a server frame of wire v1: {error}") from error


def table_shape(table: Table) -> tuple[int, int]:
    """(k series, n steps) of a table. Raises `FrameError` if the blocks do not fit together."""
    k, width = len(table.ids), 8 if table.dtype == "f8" else 4
    n, rest = divmod(len(table.steps), 8)
    if rest or len(table.times) != 8 * n or len(table.values) != width * k * n:
        raise FrameError(
            f"expected blocks of i64[n], f64[n] and {table.dtype}[{k}, n]; "
            f"got {len(table.steps)}, {len(table.times)} and {len(table.values)} bytes"
        )
    return k, n
