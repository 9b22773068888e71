"""One real server process, and trainings of several real processes over gloo.

Most ranks are forked from a process that has imported torch already (multiprocessing's
forkserver), which is quick; what torchrun itself does is tested with torchrun.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
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

from distributed import forked
from nanwatch.cli.local_server import Browser, LocalServer, environment

TRAINING = Path(__file__).parent / "training.py"
PRELOADED = ("torch.distributed.fsdp", "torch.distributed.tensor", "nanwatch.run")
"""What takes long to import. Not our test modules: the forkserver does not know their folder."""

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


class Server(LocalServer):
    """A server and a browser that is signed in."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, 0)
        self.client = Browser(self.url, self.login_url)

    def runs(self) -> list[dict[str, Any]]:
        """All runs, newest first."""
        return self.client.get("/api/runs")["runs"]

    def runs_of(self, training: Training) -> list[dict[str, Any]]:
        """Those of one launch."""
        return [run for run in self.runs() if run["project"] == training.project]

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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of all these tests, whose log must stay clean: each launch is its own project."""
    started = Server(tmp_path_factory.mktemp("server") / "data")
    yield started
    started.stop()
    log = started.log_path.read_text()
    assert "Traceback" not in log and "failed" not in log, log


class Training:
    """One launch: processes that run until they end, and what they print."""

    def __init__(self, project: str, log: Path) -> None:
        self.project, self.log = project, log

    def running(self) -> bool:
        """True until the first of its processes has ended."""
        raise NotImplementedError

    def wait(self, timeout_s: float) -> list[int | None]:
        """Exit codes; None for a process that has not ended."""
        raise NotImplementedError

    def kill(self) -> None:
        """End what still runs."""
        raise NotImplementedError

    def ended(self, timeout_s: float = 120) -> str:
        """Wait for its end; what it printed. Fails unless it ended well."""
        codes = self.wait(timeout_s)
        text = self.log.read_text()
        assert not any(codes) and None not in codes, (codes, text)
        assert "internal error" not in text, text
        return text


class Launched(Training):
    """By torchrun, as a user does it."""

    def __init__(self, project: str, log: Path, command: list[str], env: dict[str, str]) -> None:
        super().__init__(project, log)
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command, env=env, stdout=file, stderr=file, start_new_session=True
            )

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, timeout_s: float) -> list[int | None]:
        try:
            return [self.process.wait(timeout_s)]
        except subprocess.TimeoutExpired:
            return [None]

    def kill(self) -> None:
        if self.running():
            os.killpg(self.process.pid, 9)
        self.process.wait()


class Forked(Training):
    """By a script that starts its ranks itself, as with `torch.multiprocessing`."""

    def __init__(
        self, project: str, log: Path, arguments: list[str], env: dict[str, str], ranks: int
    ) -> None:
        super().__init__(project, log)
        log.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOADED])
        given = (ranks, free_port(), arguments, env, str(log))
        self.processes = [
            context.Process(target=forked.begin, args=(rank, *given)) for rank in range(ranks)
        ]
        for process in self.processes:
            process.start()

    def running(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def wait(self, timeout_s: float) -> list[int | None]:
        deadline = time.monotonic() + timeout_s
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0))
            if process.exitcode:
                break  # the others wait for it for ever
        return [process.exitcode for process in self.processes]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


Launch = Callable[..., Training]
_launches = itertools.count()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a training: `launch(server, "ddp", ranks=2, by="torchrun --max-restarts=1")`."""
    started: list[Training] = []

    def begin(
        server: Server | None, *arguments: str, ranks: int = 1, by: str = "fork", **env: str
    ) -> Training:
        project = f"launch-{next(_launches)}"
        before = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
        if server is not None:
            before |= environment(server)
        before |= {"OMP_NUM_THREADS": "1", "NANWATCH_PROJECT": project} | env
        log = tmp_path / f"{project}.log"
        if by == "fork":
            one = Forked(project, log, [*arguments], before, ranks)
        else:
            more = by.split()[1:]
            command = [sys.executable, *TORCHRUN, str(ranks), *more, str(TRAINING), *arguments]
            one = Launched(project, log, command, before)
        started.append(one)
        return one

    yield begin
    for training in started:
        training.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
