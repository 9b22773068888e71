"""Peers as the benchmarks of the server see them: TensorBoard and an MLflow server, as processes.

Both are optional: `NANWATCH_BENCH_MLFLOW_PYTHON` names an interpreter that has MLflow if this one
has not. Not a benchmark itself.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import installed

START_S = 120.0
EVENT_FILE = "events.out.tfevents.1700000000.bench"


def mlflow_python() -> str:
    """The interpreter that has MLflow, empty if there is none."""
    if named := os.environ.get("NANWATCH_BENCH_MLFLOW_PYTHON", ""):
        return named
    return sys.executable if installed("mlflow") else ""


def mlflow_version() -> str:
    """Version of the MLflow that is measured."""
    python = mlflow_python()
    if not python:
        return "not installed"
    code = "import importlib.metadata as m; print(m.version('mlflow'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "not installed"


class Http:
    """One kept-alive connection to a peer."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def get(self, path: str, **query: Any) -> bytes:
        """The body of a GET. Raises `RuntimeError` if it is not 200."""
        text = urllib.parse.urlencode(query, doseq=True)
        return self._ask("GET", f"{path}?{text}" if text else path)

    def post(self, path: str, body: Any) -> Any:
        """The decoded answer of a POST of JSON. Raises `RuntimeError` if it is not 200."""
        return json.loads(self._ask("POST", path, json.dumps(body)) or b"{}")

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        self._http.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status}: {data[:300]!r}")
        return data


@contextmanager
def _process(command: Sequence[str], port: int, probe: str, directory: Path) -> Iterator[Http]:
    with (directory / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=directory, start_new_session=True
        )
    try:
        until = time.monotonic() + START_S
        while True:
            try:
                client = Http(port)
                client.get(probe)
                break
            except (OSError, http.client.HTTPException, RuntimeError):
                if process.poll() is not None or time.monotonic() > until:
                    text = (directory / "peer.log").read_text(errors="replace")[-1000:]
                    raise RuntimeError(f"{command[0]} did not start: {text}") from None
                time.sleep(0.1)
        yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its own session: workers go with it
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# --- TensorBoard ---------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_events(directory: Path, values: dict[str, np.ndarray]) -> int:
    """Scalars as `SummaryWriter.add_scalar` writes them, one event a value; bytes of the file.

    The events are encoded here (protocol buffers by hand, the writer's own checksum): its Python
    objects are twenty times slower and would be most of the benchmark.
    """
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / EVENT_FILE
    u32 = struct.Struct("<I")
    length_crc: dict[int, bytes] = {}
    with path.open("wb") as file:

        def record(data: bytes) -> None:
            head = struct.pack("<Q", len(data))
            if len(data) not in length_crc:
                length_crc[len(data)] = u32.pack(masked_crc32c(head))
            file.write(head + length_crc[len(data)] + data + u32.pack(masked_crc32c(data)))

        version = b"brain.Event:2"
        record(b"\x09" + struct.pack("<d", 1.7e9) + b"\x1a" + _varint(len(version)) + version)
        for name, column in values.items():
            tag = b"\x0a" + _varint(len(name)) + name.encode()
            for step, value in enumerate(column.astype("<f4").tolist()):
                one = tag + b"\x15" + struct.pack("<f", value)
                summary = b"\x0a" + _varint(len(one)) + one
                record(
                    b"\x09" + struct.pack("<d", 1.7e9 + step * 0.01)
                    + b"\x10" + _varint(step) + b"\x2a" + _varint(len(summary)) + summary
                )  # fmt: skip
    return path.stat().st_size


@contextmanager
def tensorboard(logdir: Path, *, samples: int | None = None) -> Iterator[Http]:
    """TensorBoard's server over `logdir`; it keeps so many points a tag (default 1,000)."""
    port = _free_port()
    command = [
        sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir),
        "--port", str(port), "--host", "127.0.0.1", "--reload_interval", "1",
    ]  # fmt: skip
    if samples is not None:
        command.append(f"--samples_per_plugin=scalars={samples}")
    with (
        tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as place,
        _process(command, port, "/data/environment", Path(place)) as client,
    ):
        yield client


def tensorboard_points(client: Http, run: str, tag: str) -> list[list[float]]:
    """What TensorBoard's page gets for one chart: [time, step, value]; empty if not loaded yet."""
    try:
        data = client.get("/data/plugin/scalars/scalars", run=run, tag=tag)
    except RuntimeError:
        return []
    return json.loads(data)


# --- MLflow --------------------------------------------------------------------------------------


class Mlflow:
    """A tracking server on SQLite, and its database file."""

    def __init__(self, client: Http, port: int, database: Path) -> None:
        self.client, self.port, self.database = client, port, database
        made = client.post("/api/2.0/mlflow/experiments/create", {"name": uuid.uuid4().hex})
        self.experiment: str = made["experiment_id"]

    def new_run(self) -> str:
        """A run's id."""
        body = {"experiment_id": self.experiment, "start_time": int(time.time() * 1e3)}
        return self.client.post("/api/2.0/mlflow/runs/create", body)["run"]["info"]["run_id"]

    def fill(self, run_id: str, values: dict[str, np.ndarray]) -> None:
        """Points straight into its table, as its own server would have stored them."""
        db = sqlite3.connect(self.database, timeout=60)
        with db:
            for name, column in values.items():
                db.executemany(
                    "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
                    " VALUES (?, ?, ?, ?, ?, 0)",
                    (
                        (name, value, 1_700_000_000_000 + 10 * step, run_id, step)
                        for step, value in enumerate(column.tolist())
                    ),
                )
                last = len(column) - 1
                db.execute(
                    "INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan)"
                    " VALUES (?, ?, ?, ?, ?, 0)",
                    (name, float(column[-1]), 1_700_000_000_000 + 10 * last, run_id, last),
                )
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()

    def chart(self, run_id: str, name: str, points: int = 2_500) -> int:
        """Points that its page gets for one chart."""
        found = self.client.get(
            "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
            run_ids=run_id, metric_key=name, max_results=points,
        )  # fmt: skip
        return len(json.loads(found)["metrics"])


@contextmanager
def mlflow() -> Iterator[Mlflow]:
    """An MLflow server with an empty database. Ask `mlflow_python` first."""
    with tempfile.TemporaryDirectory(prefix="nanwatch-bench-") as place:
        root, port = Path(place), _free_port()
        command = [
            mlflow_python(), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
            "--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}",
            "--default-artifact-root", str(root / "artifacts"),
        ]  # fmt: skip
        with _process(command, port, "/health", root) as client:
            yield Mlflow(client, port, root / "mlflow.db")
