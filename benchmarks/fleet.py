"""Many trainings at once, in a process of their own: each logs 50 points a second in small batches.

A batch is one step of ten series, five a second; the trainings are out of step with each other. The
process waits for `go` on its standard input, so that others can measure while it runs, and prints
the times from sending a batch to its acknowledgement. Not a benchmark itself: `ingest` and
`latency` start it.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from service import Reader, Service, batch, hello
from websockets.asyncio.client import connect

from nanwatch.contract import frames as f
from nanwatch.contract.limits import INGEST_PATH, PROTOCOL

BATCHES_S = 5.0
SCALARS = ("loss", "grad_norm", "lr", "clip_threshold", "update_applied")
LAYERS = 5
SERIES = len(SCALARS) + LAYERS
LEAVE_S = 60.0
"""Acknowledgements are waited for so long after the last batch."""


def declared() -> list[f.SeriesDecl]:
    """What rules read."""
    one = [f.SeriesDecl(n, kind) for n, kind in enumerate(SCALARS)]
    return one + [
        f.SeriesDecl(len(SCALARS) + n, "grad_norm_layer", "", f"layers.{n}") for n in range(LAYERS)
    ]


def healthy(rng: np.random.Generator, n: int) -> np.ndarray:
    """[series, n] of a training that nothing is wrong with."""
    values = np.exp(rng.normal(0, 0.1, (SERIES, n)))
    values[2], values[3], values[4] = 3e-4, 10.0, 1.0
    return values


class Fleet:
    """The process, seen from the benchmark."""

    def __init__(self, server: Service, trainings: int, seconds: float) -> None:
        command = [
            sys.executable, str(Path(__file__)), server.url, server.token,
            str(trainings), str(seconds),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "connected":
            raise RuntimeError("the trainings could not connect")

    def go(self) -> None:
        """All begin to log."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        """Runs, batches sent and acknowledged a run, times in ms. Waits for the end."""
        out, _ = self._process.communicate()
        return json.loads(out.splitlines()[-1])

    def running(self) -> bool:
        """True while they log."""
        return self._process.poll() is None

    def end(self) -> None:
        """End it, done or not."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def fleet(server: Service, trainings: int, seconds: float) -> Iterator[Fleet]:
    """Trainings that are connected; they log for `seconds` after `go`."""
    one = Fleet(server, trainings, seconds)
    try:
        yield one
    finally:
        one.end()


def lost(server: Service, runs: list[str], sent: int) -> int:
    """Points sent to these runs that a query does not see."""
    reader, missing = Reader(server), 0
    for run_id in runs:
        ids = reader.ids(run_id)
        missing += sent * SERIES - reader.points(run_id, ids)
    return missing


# --- in the process ------------------------------------------------------------------------------


async def _training(url: str, token: str, count: int, ready: asyncio.Semaphore, go: asyncio.Event):
    """One training: (run, acknowledged, times from sending to acknowledgement in ms)."""
    rng = np.random.default_rng(random.getrandbits(32))
    values = healthy(rng, count)
    ids = range(SERIES)
    frames = [batch(n, ids, n, values[:, n : n + 1]) for n in range(count)]
    first = hello("fleet", count)
    async with connect(
        url.replace("http", "ws", 1) + INGEST_PATH,
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[PROTOCOL],  # type: ignore[list-item]
        compression=None,
        proxy=None,
        open_timeout=60,
    ) as socket:
        await socket.send(f.encode(first))
        f.decode_server(await socket.recv())  # type: ignore[arg-type]
        await socket.send(f.encode(f.Declare(series=declared())))
        ready.release()
        await go.wait()
        sent_at = [0.0] * count
        took: list[float] = []
        acked = -1

        async def listen() -> None:
            nonlocal acked
            while acked < count - 1:
                answer: Any = f.decode_server(await socket.recv())  # type: ignore[arg-type]
                if isinstance(answer, f.Ack):
                    now = time.perf_counter()
                    took.extend((now - sent_at[n]) * 1e3 for n in range(acked + 1, answer.upto + 1))
                    acked = answer.upto

        listening = asyncio.create_task(listen())
        begin = time.perf_counter() + random.random() / BATCHES_S
        for n, frame in enumerate(frames):
            # From when it was due: a server that holds us up must not look quick for it.
            sent_at[n] = begin + n / BATCHES_S
            await asyncio.sleep(max(0.0, sent_at[n] - time.perf_counter()))
            await socket.send(frame)
        await asyncio.wait([listening], timeout=LEAVE_S)
        listening.cancel()
        return first.run.id, acked + 1, took


async def _all(url: str, token: str, trainings: int, count: int) -> dict[str, Any]:
    ready, go = asyncio.Semaphore(0), asyncio.Event()
    tasks = [asyncio.create_task(_training(url, token, count, ready, go)) for _ in range(trainings)]
    for _ in range(trainings):
        waiting = asyncio.create_task(ready.acquire())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # raises what went wrong
        await waiting
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    go.set()
    found = await asyncio.gather(*tasks)
    return {
        "runs": [run for run, _, _ in found],
        "sent": count,
        "acked": sum(acked for _, acked, _ in found),
        "ms": [round(one, 3) for _, _, took in found for one in took],
    }


if __name__ == "__main__":
    _url, _token, _trainings, _seconds = sys.argv[1:]
    _count = max(1, round(float(_seconds) * BATCHES_S))
    print(json.dumps(asyncio.run(_all(_url, _token, int(_trainings), _count))))
