"""A real server process and trainings of several real processes over gloo."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanwatch.cli.local_server import Browser, LocalServer, environment

TRAINING = Path(__file__).parent / "training.py"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


class Server(LocalServer):
    """A server and a browser that is signed in."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, 0)
        self.client = Browser(self.url, self.login_url)

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        return self.client.get("/api/runs")["runs"]

    def detail(self, run: str) -> dict[str, Any]:
        """Everything about one run but its points."""
        return self.client.get(f"/api/runs/{run}")

    def points(
        self, run: str, kind: str, layer: str = "", rank: int = 0
    ) -> list[tuple[int, float]]:
        """Every stored (step, value) of one series."""
        wanted = (kind, layer, rank)
        ids = [
            s["id"]
            for s in self.detail(run)["series"]
            if (s["kind"], s["layer"], s["rank"]) == wanted
        ]
        if not ids:
            return []
        (found,) = ids
        frame = self.client.get_bytes(f"/api/runs/{run}/series?ids={found}&buckets=20000")
        length = struct.unpack_from("<I", frame)[0]
        (entry,) = json.loads(frame[8 : 8 + length])["series"]
        assert entry["mode"] == "raw"

        def column(name: str) -> list[float]:
            start = 8 + length + entry[name]
            return array("d", frame[start : start + 8 * entry["n"]]).tolist()

        return [(int(s), v) for s, v in zip(column("steps"), column("values"), strict=True)]


def eventually(look: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Wait until `look()` is true; fail saying what never came."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        seen = look()
        if seen:
            return seen
        time.sleep(0.1)
    pytest.fail(f"no {what} within {timeout_s} s")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with an empty data directory, whose log must stay clean."""
    started = Server(tmp_path / "data")
    yield started
    started.stop()
    log = started.log_path.read_text()
    assert "Traceback" not in log and "failed" not in log, log


class Training:
    """One launch: a process that starts and ends the others."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command, env=env, stdout=file, stderr=file, start_new_session=True
            )

    def ended(self, timeout_s: float = 120) -> str:
        """Wait for its end; what it printed. Fails unless it ended well."""
        code = self.process.wait(timeout_s)
        text = self.log.read_text()
        assert code == 0, text
        assert "internal error" not in text, text
        return text


Launch = Callable[..., Training]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a training: `launch(server, "ddp", ranks=2, by="torchrun")`."""
    started: list[Training] = []

    def begin(
        server: Server | None, *arguments: str, ranks: int = 1, by: str = "torchrun", **env: str
    ) -> Training:
        before = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
        if server is not None:
            before |= environment(server)
        before |= {"OMP_NUM_THREADS": "1"} | env
        command = [str(TRAINING), *arguments]
        if ranks > 1 and by == "spawn":
            command += ["--spawn", str(ranks), "--port", str(free_port())]
        elif ranks > 1:
            more = by.split()[1:]
            command = [*TORCHRUN, str(ranks), *more, *command]
        log = tmp_path / f"training-{len(started)}.log"
        started.append(Training([sys.executable, *command], before, log))
        return started[-1]

    yield begin
    for training in started:
        if training.process.poll() is None:
            os.killpg(training.process.pid, 9)
        training.process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
