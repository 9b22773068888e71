"""A small raw training client for tests: speaks the wire contract over a real socket."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from nanwatch.contract import frames as f
from nanwatch.contract.limits import INGEST_PATH, PROTOCOL

RUN = "ab" * 16


def hello(run: str = RUN, epoch: int = 1, **more: Any) -> f.Hello:
    """A hello of a run of project `p`."""
    info = f.RunInfo(
        id=run,
        project=more.pop("project", "p"),
        name=more.pop("name", "run"),
        started_at=more.pop("started_at", 1000.0),
        config=more.pop("config", {}),
        facts=more.pop("facts", {}),
    )
    given: dict[str, Any] = {
        "proto": [1],
        "sdk": "test",
        "run": info,
        "rank": 0,
        "world": 1,
        "epoch": epoch,
        "wall": time.time(),
        "events": f.Span(0, -1),
        "scalars": f.Span(0, -1),
    }
    return f.Hello(**(given | more))


def table(ids: list[int], steps: Any, values: Any, times: Any = None) -> f.Table:
    """A table of float64 values[k, n]."""
    steps = np.asarray(steps, "<i8")
    times = steps * 0.1 + 1000.0 if times is None else np.asarray(times)
    return f.Table(
        ids=ids,
        steps=steps.tobytes(),
        times=np.asarray(times, "<f8").tobytes(),
        values=np.ascontiguousarray(values, "<f8").tobytes(),
    )


class Wire:
    """One connection."""

    def __init__(self, url: str, token: str | None, **options: Any) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= options.pop("headers", {})
        self._opening = connect(
            url.replace("http", "ws", 1) + INGEST_PATH,
            additional_headers=headers,
            subprotocols=options.pop("subprotocols", [PROTOCOL]),
            compression=None,
            proxy=None,
            close_timeout=1,
            max_size=1 << 20,
            **options,
        )
        self.socket: ClientConnection = self._opening.__enter__()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, frame: Any) -> None:
        """A frame, or raw bytes."""
        self.socket.send(frame if isinstance(frame, bytes) else f.encode(frame))

    def receive(self, timeout: float = 10.0) -> Any:
        """The next frame of the server."""
        data = self.socket.recv(timeout)
        assert isinstance(data, bytes)
        return f.decode_server(data)

    def hello(self, **given: Any) -> f.Welcome:
        """Say hello and read the welcome."""
        self.send(hello(**given))
        welcome = self.receive()
        assert isinstance(welcome, f.Welcome)
        return welcome

    def until(self, kind: type, timeout: float = 10.0) -> Any:
        """The next frame of this kind; others are read over."""
        end = time.monotonic() + timeout
        while True:
            frame = self.receive(max(end - time.monotonic(), 0.01))
            if isinstance(frame, kind):
                return frame

    def acked(self, lane: str, upto: int, timeout: float = 10.0) -> None:
        """Wait until everything up to `upto` is durable."""
        while True:
            ack = self.until(f.Ack, timeout)
            if ack.lane == lane and ack.upto >= upto:
                return


def skipping_run(
    server: Any, number: int, *, skips: int = 0, project: str = "p", tables: int = 1
) -> str:
    """A run of `tables` times 600 steps that ends; it skips updates in a row from step 300 on."""
    run = f"{number:x}" * 32
    with Wire(server.url, server.token) as wire:
        wire.hello(run=run, project=project, name=f"run{number}", started_at=1000.0 + number)
        wire.send(f.Declare(series=[f.SeriesDecl(1, "update_applied"), f.SeriesDecl(2, "loss")]))
        for part in range(tables):
            steps = np.arange(part * 600, part * 600 + 600)
            applied = np.where((steps >= 300) & (steps < 300 + skips), 0.0, 1.0)
            loss = 1.0 + np.exp(-steps / 100) + 0.01 * np.sin(steps)
            records = [table([1, 2], steps, [applied, loss])]
            wire.send(f.Batch(lane="scalars", first=part, records=records))
            wire.acked("scalars", part)
    return run
