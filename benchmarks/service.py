"""What the benchmarks of the server share: its process, a feeding socket, a reading connection.

The server is a real process on a real port; points go in by the ingest socket and come out by the
HTTP API. Not a benchmark itself.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from common import READY_TIMEOUT_S
from websockets.sync.client import ClientConnection, connect

from nanwatch.contract import frames as f
from nanwatch.contract.limits import CREDIT_BATCHES, INGEST_PATH, PROTOCOL

STEP_S = 0.01
"""Time between two steps of a made-up training."""


class Service:
    """A server process that can be killed and started again on the same data."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.url = self.token = self.admin = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "nanwatch.sqlite"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Seconds from the start of the process until the health route answers."""
        ready = self.data_dir / "ready.json"
        ready.unlink(missing_ok=True)
        self.data_dir.mkdir(exist_ok=True)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
        command = ["serve", "--port", "0", "--no-open", "--ready-file", str(ready)]
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nanwatch", *command],
            env={**clean, "NANWATCH_DATA_DIR": str(self.data_dir)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not ready.exists():
            late = time.perf_counter() - started > READY_TIMEOUT_S
            if self._process.poll() is not None or late:
                raise RuntimeError("the server did not start: try `nanwatch serve`")
            time.sleep(0.005)
        info = json.loads((self.data_dir / "server.json").read_text())
        self.url, self.token, self.admin = info["url"], info["ingest_token"], info["admin_token"]
        Reader(self).get("/healthz")
        return time.perf_counter() - started

    def stop(self, *, kill: bool = False) -> None:
        """End the process: by a polite signal, or by kill -9."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_s(self) -> float:
        """CPU seconds of the server so far, of all its threads (NaN where there is no /proc)."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def uncompacted(self, run_id: str) -> int:
        """Journal rows of the run that are not in chunks yet, read from the database file."""
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as db:
            query = "SELECT count(*) FROM journal WHERE run_id = ?"
            found: int = db.execute(query, (run_id,)).fetchone()[0]
        db.close()
        return found

    def wait_compacted(self, run_id: str, timeout_s: float = 240.0) -> float:
        """Seconds until the server itself has moved all points of the run into chunks."""
        started = time.perf_counter()
        while self.uncompacted(run_id):
            if time.perf_counter() - started > timeout_s:
                raise RuntimeError(f"not compacted within {timeout_s:.0f} s")
            time.sleep(0.25)
        return time.perf_counter() - started

    def spare(self) -> int:
        """Bytes of the database file that hold nothing and are kept for the next points."""
        db = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        pages, size = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")
        )
        db.close()
        return pages * size


@contextmanager
def service() -> Iterator[Service]:
    """A server with an empty data directory of its own."""
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as directory:
        one = Service(Path(directory) / "data")
        try:
            one.start()
            yield one
        finally:
            one.stop()


class Reader:
    """One kept-alive HTTP connection, as a browser's."""

    def __init__(self, server: Service) -> None:
        self._headers = {"Authorization": f"Bearer {server.admin}"}
        self._http = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)

    def get(self, path: str) -> bytes:
        """The body of an answer. Raises `RuntimeError` if it is not 200."""
        self._http.request("GET", path, headers=self._headers)
        answer = self._http.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status}: {body[:300]!r}")
        return body

    def json(self, path: str) -> dict[str, Any]:
        """The body of an answer, decoded."""
        return json.loads(self.get(path))

    def ids(self, run_id: str) -> list[int]:
        """The server's numbers of the run's series, in the order of their names."""
        found = self.json(f"/api/runs/{run_id}")["series"]
        return [one["id"] for one in sorted(found, key=lambda s: (s["kind"], s["layer"]))]

    def points(self, run_id: str, series_ids: Sequence[int]) -> int:
        """Points of these series (at most 256) that a query sees."""
        wanted = ",".join(map(str, series_ids))
        found = read_series(self.get(f"/api/runs/{run_id}/series?ids={wanted}&buckets=10"))
        return sum(
            int(one["count"].sum()) if "count" in one else len(one["steps"])
            for one in found.values()
        )

    def last_step(self, run_id: str, series_id: int) -> int:
        """Last step of a series that a query sees; -1 if there is none."""
        found = self.get(f"/api/runs/{run_id}/series?ids={series_id}&buckets=10")
        columns = read_series(found)[series_id]
        last = columns.get("last_step", columns.get("steps"))
        return int(last[-1]) if last is not None and len(last) else -1

    def newest(self, run_id: str, series_id: int) -> float:
        """The value that came last, as a query sees it; NaN if there is none."""
        found = self.get(f"/api/runs/{run_id}/series?ids={series_id}&buckets=10")
        columns = read_series(found)[series_id]
        last = columns.get("last", columns.get("values"))
        return float(last[-1]) if last is not None and len(last) else float("nan")


def read_series(frame: bytes) -> dict[int, dict[str, np.ndarray]]:
    """Columns of each series of a `series` frame (docs/protocol.md, section 3)."""
    size = int.from_bytes(frame[:4], "little")
    header, blocks = json.loads(frame[8 : 8 + size]), memoryview(frame)[8 + size :]
    plain = {"id", "mode", "n"}
    return {
        one["id"]: {
            name: np.frombuffer(blocks, "<f8", one["n"], at)
            for name, at in one.items()
            if name not in plain
        }
        for one in header["series"]
    }


# --- points in -----------------------------------------------------------------------------------


def table(ids: Sequence[int], first_step: int, values: np.ndarray) -> f.Table:
    """`values` [series, steps] as a table; float32 stays float32."""
    steps = np.arange(first_step, first_step + values.shape[1], dtype="<i8")
    return f.Table(
        ids=list(ids),
        steps=steps.tobytes(),
        times=np.round(1.7e9 + steps * STEP_S, 3).astype("<f8").tobytes(),
        values=np.ascontiguousarray(values).tobytes(),
        dtype="f4" if values.dtype == np.float32 else "f8",
    )


def batch(number: int, ids: Sequence[int], first_step: int, values: np.ndarray) -> bytes:
    """One encoded batch of one table."""
    records: list[f.Record] = [table(ids, first_step, values)]
    return f.encode(f.Batch(lane="scalars", first=number, records=records))


def hello(name: str, count: int, run_id: str = "") -> f.Hello:
    """First frame of a new run that holds `count` batches."""
    run = f.RunInfo(
        id=run_id or uuid.uuid4().hex, project="bench", name=name, started_at=time.time()
    )
    return f.Hello(
        proto=[1], sdk="bench", run=run, rank=0, world=1, epoch=1, wall=time.time(),
        events=f.Span(0, -1), scalars=f.Span(0, count - 1),
    )  # fmt: skip


@contextmanager
def dial(server: Service, first: f.Hello) -> Iterator[tuple[ClientConnection, f.Welcome]]:
    """An ingest socket that was welcomed."""
    with connect(
        server.url.replace("http", "ws", 1) + INGEST_PATH,
        additional_headers={"Authorization": f"Bearer {server.token}"},
        subprotocols=[PROTOCOL],  # type: ignore[list-item]
        compression=None,
        proxy=None,
    ) as socket:
        socket.send(f.encode(first))
        welcome = f.decode_server(socket.recv())  # type: ignore[arg-type]
        assert isinstance(welcome, f.Welcome)
        yield socket, welcome


def feed(socket: ClientConnection, batches: Sequence[bytes], credit: int = CREDIT_BATCHES) -> None:
    """Send numbered batches within the credit; returns when all are acknowledged."""
    acked, sent = -1, 0
    while acked < len(batches) - 1:
        while sent < len(batches) and sent - acked <= credit:
            socket.send(batches[sent])
            sent += 1
        answer: Any = f.decode_server(socket.recv())  # type: ignore[arg-type]
        if isinstance(answer, f.Ack):
            acked, credit = answer.upto, answer.credit
        elif isinstance(answer, f.Slow):
            time.sleep(answer.retry)
            sent, credit = acked + 1, max(1, answer.credit)
        elif isinstance(answer, f.Reject):
            raise RuntimeError(f"refused: {answer.code}: {answer.message}")


def upload(server: Service, name: str, declared: list[f.SeriesDecl], batches: list[bytes]) -> str:
    """A new run with these batches, all acknowledged; its id."""
    first = hello(name, len(batches))
    with dial(server, first) as (socket, welcome):
        socket.send(f.encode(f.Declare(series=declared)))
        feed(socket, batches, welcome.credit)
    return first.run.id
