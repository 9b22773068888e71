"""Misbehaving servers, a spool deleted under us, and processes in which something of ours fails.

The foreign servers here are plain sockets and WebSockets that speak, or do not speak, the frames
of the contract; one real server takes what is too much for a small one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

import nanwatch
from nanwatch.cli.local_server import Browser, LocalServer
from nanwatch.contract.frames import (
    Accepted,
    Ack,
    Batch,
    Command,
    CommandResult,
    Gap,
    Go,
    Table,
    Welcome,
    decode_client,
    encode,
)
from nanwatch.contract.limits import FRAME_BYTES_MAX, PROTOCOL
from nanwatch.control.learning_rate import factor_of
from nanwatch.guard import GUARD, Guard
from nanwatch.link import connection
from nanwatch.link.spool import scan
from nanwatch.run import NullRun, Run
from sdk.watched import Watched

Watch = Callable[..., Watched]
Mood = Callable[["Foreign", ServerConnection], None]

EXIT_S = 2.3
EXIT_BESIDE_A_SERVER_S = 3.0
"""The foreign server runs in this very process and takes its share of the interpreter."""


def eventually(look: Callable[[], Any], timeout_s: float = 15) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def values_of(batch: Batch) -> list[float]:
    """Values of the tables of one series each."""
    tables = [r for r in batch.records if isinstance(r, Table) and len(r.ids) == 1]
    return [value for table in tables for value in array("d", table.values)]


def on_disk(data: Path) -> list[float]:
    """Logged values in the segments that a process left behind."""
    found: list[float] = []
    for path in sorted(data.glob("spool/*/scalars-*.seg")):
        for _, _, _, payload in scan(path):
            frame = decode_client(payload)
            if isinstance(frame, Batch):
                found += values_of(frame)
    return found


# --- servers -------------------------------------------------------------------------------------


class Foreign:
    """A server that treats each connection by the next mood, and those after them honestly."""

    def __init__(self, *moods: Mood, welcome: dict[str, Any] | None = None) -> None:
        self.moods = list(moods)
        self.welcome = welcome or {}
        self.batches: dict[tuple[str, int], Batch] = {}
        self.gaps: list[Gap] = []
        self.marks = {"events": -1, "scalars": -1}
        self.go: set[str] = set()
        self.live: ServerConnection | None = None
        self.connections = 0

    def handle(self, ws: ServerConnection) -> None:
        self.connections += 1
        try:
            (self.moods.pop(0) if self.moods else Foreign.honest)(self, ws)
        except ConnectionClosed:
            pass

    def greet(self, ws: ServerConnection) -> None:
        ws.recv()
        ws.send(encode(self.greeting()))

    def greeting(self) -> Welcome:
        marks = {"events": self.marks["events"], "scalars": self.marks["scalars"]}
        said = {"proto": 1, "session": "s", "credit": 64, "wall": 0.0, **marks, **self.welcome}
        return Welcome(**said)

    def honest(self, ws: ServerConnection) -> None:
        """Keeps everything and says so."""
        self.greet(ws)
        self.live = ws
        while True:
            self.take(ws)

    def take(self, ws: ServerConnection, *, ack: bool = True) -> Any:
        """One frame of the client; a batch is kept only if it is acknowledged."""
        frame = decode_client(ws.recv())
        if isinstance(frame, Batch) and ack:
            self.batches[frame.lane, frame.first] = frame
            upto = frame.first + len(frame.records) - 1
            self.marks[frame.lane] = max(self.marks[frame.lane], upto)
            ws.send(encode(Ack(lane=frame.lane, upto=self.marks[frame.lane], credit=64)))
        elif isinstance(frame, Gap):
            self.gaps.append(frame)
        elif isinstance(frame, Accepted) and frame.id in self.go:
            ws.send(encode(Go(id=frame.id, nonce=frame.nonce)))
        return frame

    @property
    def values(self) -> list[float]:
        """Logged values in the order of their sequence numbers."""
        kept = sorted((first, b) for (lane, first), b in self.batches.items() if lane == "scalars")
        return [value for _, batch in kept for value in values_of(batch)]

    @property
    def results(self) -> list[CommandResult]:
        """What became of commands."""
        kept = [batch for (lane, _), batch in sorted(self.batches.items()) if lane == "events"]
        return [r for batch in kept for r in batch.records if isinstance(r, CommandResult)]


@contextmanager
def listening(foreign: Foreign) -> Iterator[str]:
    with serve(
        foreign.handle,
        "127.0.0.1",
        0,
        subprotocols=[PROTOCOL],  # type: ignore[list-item]
        compression=None,
        max_size=None,
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


@contextmanager
def mute_socket() -> Iterator[str]:
    """Accepts connections (the system does) and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def silent(_: Foreign, ws: ServerConnection) -> None:
    """Completes the handshake, then only listens."""
    while True:
        ws.recv()


@contextmanager
def mute_websocket() -> Iterator[str]:
    with listening(Foreign(*[silent] * 100)) as url:
        yield url


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Starts runs in this process that try a lost server again soon."""
    monkeypatch.setattr(connection, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(connection, "RETRY_MOST_S", 0.1)
    with ExitStack() as ending:

        def make(url: str, **options: Any) -> Run:
            run = nanwatch.init("review", server=url, token="x", **options)
            assert isinstance(run, Run)
            ending.callback(run.finish)
            return run

        yield make


# --- silence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mute", [mute_websocket, mute_socket])
def test_everything_is_on_disk_when_a_mute_server_is_left(mute: Any, tmp_path: Path) -> None:
    code = """
    import time, nanwatch
    run = nanwatch.init("mute")
    for i in range(100):
        run.log(v=float(i))
        time.sleep(0.004)
    started = time.monotonic()
    run.finish()
    print(time.monotonic() - started)
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    with mute() as url:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={
                **clean,
                "NANWATCH_DATA_DIR": str(tmp_path),
                "NANWATCH_URL": url,
                "NANWATCH_TOKEN": "x",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= EXIT_S and "Traceback" not in done.stderr
    assert on_disk(tmp_path) == [float(i) for i in range(100)]


def test_a_server_that_never_stops_talking_keeps_nothing_from_the_disk(
    begin: Callable[..., Run], tmp_path: Path
) -> None:
    def flood(foreign: Foreign, ws: ServerConnection) -> None:
        foreign.greet(ws)
        word = encode(Ack(lane="scalars", upto=-1, credit=64))
        flood = (bytes([0x82, len(word)]) + word) * 1_000  # whole WebSocket frames
        with suppress(OSError):
            while True:
                ws.socket.sendall(flood)

    with listening(Foreign(*[flood] * 100)) as url:
        run = begin(url)
        assert run.worker.connected.wait(10)
        for i in range(100):
            run.log(v=float(i))
            time.sleep(0.005)
        assert eventually(lambda: len(on_disk(tmp_path / "data")) == 100, 10)
        started = time.monotonic()
        run.finish()
        assert time.monotonic() - started <= EXIT_BESIDE_A_SERVER_S


def test_a_line_that_breaks_under_a_declaration_loses_no_point(
    watched: Callable[..., Watched],
) -> None:
    with listening(Foreign()) as url:
        run = watched(server=url, token="x", mode="online").run
        worker = run.worker
        worker._connection = worker._handshake()
        worker._connection.abort()
        run.log(fresh=1.0)  # a new series: its declaration is what meets the broken line
        worker._round()
        assert worker._connection is None and run.recorder.backlog == 0
        assert worker.outbox.last("scalars") == 0, "the point was drained, and must be kept"
        worker.outbox.close()


def test_a_server_that_stops_reading_keeps_nothing_from_the_disk(
    begin: Callable[..., Run], tmp_path: Path
) -> None:
    def deaf(foreign: Foreign, ws: ServerConnection) -> None:
        foreign.greet(ws)
        time.sleep(20)

    with listening(Foreign(*[deaf] * 5, welcome={"credit": 1_000_000})) as url:
        run = begin(url)
        assert run.worker.connected.wait(10)
        names = [f"n{i}" for i in range(1000)]
        for k in range(1500):  # 12 MB: more than the buffers between us take
            run.log(dict.fromkeys(names, float(k)))
        eventually(lambda: run.worker._sending and run.recorder.backlog == 0, 20)
        time.sleep(0.3)
        for i in range(50):
            run.log(v=float(i))
        started = time.monotonic()
        run.finish()
        assert time.monotonic() - started <= EXIT_BESIDE_A_SERVER_S
        assert on_disk(tmp_path / "data")[-50:] == [float(i) for i in range(50)]


@pytest.mark.parametrize("interval", [1e9, math.inf, math.nan, -1.0, 0.0])
def test_an_absurd_interval_is_not_obeyed(begin: Callable[..., Run], interval: float) -> None:
    foreign = Foreign(welcome={"interval": interval})
    with listening(foreign) as url:
        run = begin(url)
        assert run.worker.connected.wait(10)
        for i in range(20):
            run.log(v=float(i))
        assert eventually(lambda: len(foreign.values) == 20, 5)
        run.finish()


# --- nonsense ------------------------------------------------------------------------------------


def hang_up(_: Foreign, ws: ServerConnection) -> None:
    ws.close()


def cut(_: Foreign, ws: ServerConnection) -> None:
    """The cable is pulled: no closing handshake, a reset."""
    ws.recv()
    ws.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    ws.socket.shutdown(socket.SHUT_RDWR)


def hang_up_after_welcome(foreign: Foreign, ws: ServerConnection) -> None:
    foreign.greet(ws)


def lose_a_batch(foreign: Foreign, ws: ServerConnection) -> None:
    """Takes a batch and is gone before it could be stored."""
    foreign.greet(ws)
    while not isinstance(foreign.take(ws, ack=False), Batch):
        continue


def die_after_an_ack(foreign: Foreign, ws: ServerConnection) -> None:
    foreign.greet(ws)
    while not isinstance(foreign.take(ws), Batch):
        continue


def babble(*messages: bytes | str, welcome: bool = True) -> Mood:
    def mood(foreign: Foreign, ws: ServerConnection) -> None:
        if welcome:
            foreign.greet(ws)
        for message in messages:
            ws.send(message)
        while True:  # the client must go by itself
            foreign.take(ws, ack=False)

    return mood


WELCOME = encode(Welcome(proto=1, session="s", events=-1, scalars=-1, credit=64, wall=0.0))

CUTS = [hang_up, cut, hang_up_after_welcome, lose_a_batch, die_after_an_ack, cut, lose_a_batch]
GARBAGE = [
    babble(b"\xc1"),
    babble(b"\x00" * 100, welcome=False),
    babble(b"\x81\xa1t\xa3zzz"),
    babble(b"\x81\xa4type\xa7welcome", welcome=False),
    babble(b"\xff" * 500),
    babble("text, \N{SNOWMAN}"),
    babble(b"", welcome=False),
    babble(WELCOME[:-7], welcome=False),
    babble(encode(Ack(lane="scalars", upto=-1, credit=1)), welcome=False),
    babble(b"\x91" * 5_000),
    babble(b"\x00" * (2 << 20)),
]


@pytest.mark.parametrize("moods", [CUTS, GARBAGE], ids=["cuts", "garbage"])
def test_a_server_that_recovers_has_everything_once_and_in_order(
    begin: Callable[..., Run], moods: list[Mood]
) -> None:
    foreign = Foreign(*moods)
    with listening(foreign) as url:
        run = begin(url)
        logged = 0
        while foreign.moods or foreign.live is None:
            assert logged < 3_000, f"stuck with {len(foreign.moods)} of {len(moods)} to come"
            run.log(v=float(logged))
            logged += 1
            time.sleep(0.01)
        assert eventually(lambda: len(foreign.values) >= logged)
        run.finish()
    assert foreign.values == [float(i) for i in range(logged)]
    assert not foreign.gaps and not run.recorder.dropped
    assert foreign.connections > len(moods)


# --- commands ------------------------------------------------------------------------------------


def command(name: str, kind: str, expires_in: float = 60.0, **args: Any) -> bytes:
    return encode(Command(id=name, kind=kind, args=args, expires_in=expires_in, actor="kim"))


@contextmanager
def training(run: Run, optimizer: Any, model: nn.Module) -> Iterator[Callable[..., Any]]:
    """Steps until something becomes true."""

    def until(look: Callable[[], Any], timeout_s: float = 15) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (found := look()) and time.monotonic() < deadline:
            optimizer.zero_grad()
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()
            time.sleep(0.001)
        return found

    yield until
    run.finish()


def test_a_repeated_command_is_not_applied_again_after_many_others(
    begin: Callable[..., Run],
) -> None:
    foreign = Foreign()
    foreign.go = {"same", "last"}
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with listening(foreign) as url:
        run = begin(url, control=nanwatch.Control(lr=(1e-6, 1.0)))

        def applied(name: str) -> bool:
            return any(r.id == name and r.state == "applied" for r in foreign.results)

        with training(run, optimizer, model) as until:
            assert until(lambda: foreign.live)
            assert foreign.live is not None
            foreign.live.send(command("same", "scale_lr", factor=0.5))
            assert until(lambda: applied("same"))
            for i in range(1_100):
                foreign.live.send(command(f"bogus{i}", "bogus"))
            foreign.live.send(command("same", "scale_lr", factor=0.5))
            foreign.live.send(command("last", "scale_lr", factor=0.5))
            assert until(lambda: applied("last"))
    assert [r.state for r in foreign.results if r.id == "same"] == ["applied"]
    assert factor_of(optimizer) == 0.25


def test_ten_thousand_commands_leave_the_training_as_it_is(begin: Callable[..., Run]) -> None:
    foreign = Foreign()
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    nonsense = [
        ("scale_lr", {"factor": math.nan}),
        ("set_lr", {"lr": 1e9}),
        ("bogus", {}),
        ("stop", {}),
        ("checkpoint", {}),
        ("scale_lr", {"factor": "text"}),
        ("set_lr", {"lr": -1.0, "scope": "none"}),
        ("scale_lr", {"factor": 0.5}),
    ]
    with listening(foreign) as url:
        run = begin(url, control=nanwatch.Control(lr=(1e-6, 1e-1)))
        with training(run, optimizer, model) as until:
            assert until(lambda: foreign.live)
            assert foreign.live is not None
            for i in range(10_000):
                kind, args = nonsense[i % len(nonsense)]
                expires = math.nan if i % 3 else 60.0
                foreign.live.send(command(f"c{i}", kind, expires, **args))
                if i % 100 == 0:
                    foreign.live.send(encode(Go(id=f"c{i}", nonce=1)))
            foreign.live.send(command("last", "bogus"))
            assert until(lambda: any(r.id == "last" for r in foreign.results), 25)
            logged = run.observer.clock.step
            assert until(lambda: run.observer.clock.step > logged + 20)
    assert factor_of(optimizer) == 1.0 and optimizer.param_groups[0]["lr"] == 0.01
    assert not [r for r in foreign.results if r.state in ("applied", "failed")]
    refused = [r for r in foreign.results if r.state == "rejected"]
    assert len(refused) >= 8_750, "every command that is not granted gets its answer"


# --- a real server -------------------------------------------------------------------------------


class Server(LocalServer):
    """A real server, with someone signed in."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, 0)
        self.client = Browser(self.url, self.login_url)

    def series(self, run: Run) -> list[dict[str, Any]]:
        return self.client.get(f"/api/runs/{run.id}")["series"]

    def points(self, run: Run, layer: str) -> list[float]:
        """Stored values of one logged name."""
        ids = [s["id"] for s in self.series(run) if s["layer"] == layer]
        if not ids:
            return []
        frame = self.client.get_bytes(f"/api/runs/{run.id}/series?ids={ids[0]}&buckets=20000")
        length = struct.unpack_from("<I", frame)[0]
        (entry,) = json.loads(frame[8 : 8 + length])["series"]
        start = 8 + length + entry["values"]
        return array("d", frame[start : start + 8 * entry["n"]]).tolist()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("server"))
    yield found
    found.stop()


def test_thousands_of_series_with_long_names(server: Server) -> None:
    run = nanwatch.init("many", server=server.url, token=server.token)
    assert isinstance(run, Run)
    names = [f"metrics/validation/dataset_{i}/".ljust(200, "x") for i in range(6_000)]
    assert sum(map(len, names)) > FRAME_BYTES_MAX, "more than one frame can declare"
    run.log(dict.fromkeys(names, 1.0))
    run.log(v=1.0)
    assert run.worker.connected.wait(10)
    assert eventually(lambda: server.points(run, "v") == [1.0], 30)
    run.finish()
    assert not run.recorder.dropped
    assert {s["layer"] for s in server.series(run)} == {*names, "v"}


def test_a_spool_deleted_under_us_loses_nothing_while_the_server_is_there(
    server: Server, tmp_path: Path
) -> None:
    run = nanwatch.init("deleted", server=server.url, token=server.token)
    assert isinstance(run, Run)
    for i in range(40):
        run.log(v=float(i))
        time.sleep(0.005)
    assert eventually(lambda: list((tmp_path / "data" / "spool").glob("*/*.seg")))
    shutil.rmtree(tmp_path / "data" / "spool")
    for i in range(40, 100):
        run.log(v=float(i))
        time.sleep(0.005)
    run.finish()
    assert not run.recorder.dropped
    assert server.points(run, "v") == [float(i) for i in range(100)]


# --- processes in which something of ours fails --------------------------------------------------


def test_a_user_without_home_gets_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pwd = pytest.importorskip("pwd")

    def nobody(_: int) -> None:
        raise KeyError("no such user")

    for name in ("HOME", "XDG_DATA_HOME", "NANWATCH_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = nanwatch.init("homeless", mode="offline")
    assert isinstance(run, Run)
    run.log(v=1.0)
    run.finish()
    (data,) = tmp_path.iterdir()
    assert on_disk(data) == [1.0]


class Lazy:
    """A value that has no text, as an unresolved interpolation of a configuration."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("interpolation key not found")


def test_a_configuration_without_text_and_a_name_that_is_a_number() -> None:
    config = {"a": Lazy(), "b": {"c": Lazy(), "d": 3}}
    run = nanwatch.init("odd", name=7, config=config, mode="offline")  # type: ignore[arg-type]
    assert isinstance(run, Run)
    run.finish()
    assert run.options.name == "7"
    assert run.options.config == {"a": "(RuntimeError)", "b.c": "(RuntimeError)", "b.d": "3"}


def test_init_that_fails_half_way_leaves_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.nn.utils.clip_grad as clip_module
    import torch.optim.optimizer as optimizer_module

    def functions() -> list[Any]:
        return [
            torch.autograd.backward,
            torch.optim.Optimizer.zero_grad,
            torch.optim.Optimizer.__init__,
            torch.optim.Optimizer.state_dict,
            nn.Module.zero_grad,
            clip_module._get_total_norm,
            torch.amp.GradScaler.step,
            dict(optimizer_module._global_optimizer_pre_hooks),
            dict(optimizer_module._global_optimizer_post_hooks),
            sys.excepthook,
        ]

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Guard, "reraise", False)
    before = functions()
    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", refuse)
        run = nanwatch.init("half", mode="offline")
    assert type(run) is NullRun
    assert functions() == before
    assert list(GUARD.counts) == ["init:RuntimeError"]
    GUARD.clear()


def test_an_error_without_text_does_not_reach_the_training(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wordless(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    class Values:
        def keys(self) -> list[str]:
            raise Wordless

        def __getitem__(self, key: str) -> float:
            raise Wordless

    monkeypatch.setattr(Guard, "reraise", False)
    run = watched().run
    run.log(Values())  # type: ignore[arg-type]
    assert GUARD.texts == {"log:Wordless": "Wordless"}
    GUARD.clear()
