"""A training that is silent for more than a minute (F15, F16 of the reliability reference): it is
stopped, or held up in C code that keeps the interpreter's lock. It is told as lost,
once, never as crashed; then it is back, with every point, and obeys nothing that is out of date."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.kit import TRAIN, environment
from sdk.served import Served

SILENT_S = 75.0
"""Longer than the server waits for a pong (40 s), for a sign of life after that (20 s), and than a
learning rate is worth setting (60 s)."""

TRAINING = """
import ctypes, pathlib
import nanwatch
folder, held_s = pathlib.Path(sys.argv[1]), float(sys.argv[2])
run = nanwatch.init("silence", name=folder.name, control=nanwatch.Control(lr=(1e-4, 1.0)))
held = False
for n in range(1 << 30):
    train(1)
    run.log(v=float(n))
    time.sleep(0.02)
    if held_s and not held and (folder / "hold").exists():
        held = True
        ctypes.PyDLL(None).usleep(int(held_s * 1e6))  # keeps the lock
    if (folder / "end").exists():
        break
print(n + 1, optimizer.param_groups[0]["lr"])
"""


class Training:
    """One process, and its run as the server knows it."""

    def __init__(self, served: Served, folder: Path, held_s: float) -> None:
        folder.mkdir()
        self.served, self.folder, self.id = served, folder, ""
        self.told: set[str] = set()
        """Every status that was seen."""
        env = environment(folder / "data", NANWATCH_URL=served.url, NANWATCH_TOKEN=served.token)
        code = TRAIN + textwrap.dedent(TRAINING)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(held_s)],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begun(self) -> bool:
        """Enough has come that the server knows its pace."""
        runs = self.served.client.get("/api/runs")["runs"]
        mine = [one for one in runs if one["name"] == self.folder.name]
        self.id = mine[0]["id"] if mine else ""
        return bool(mine) and mine[0]["last_step"] > 100

    @property
    def status(self) -> str:
        found = self.served.run(self.id)["status"]
        self.told.add(found)
        return found

    def silences(self) -> list[dict[str, Any]]:
        """Incidents about it that name silence."""
        found = self.served.client.get(f"/api/runs/{self.id}/incidents")["incidents"]
        return [one for one in found if "attempt" in one["title"].lower()]


def eventually(what: Callable[[], object], timeout_s: float, why: str) -> None:
    """Until it is true."""
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.2)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "server")
    server.client.send("PUT", "/api/rules", {"text": "[stall]\nlive_floor_s = 8.0\n"})
    yield server
    server.stop()


def test_silence_is_told_once_and_costs_nothing(served: Served, tmp_path: Path) -> None:
    stopped = Training(served, tmp_path / "stopped", 0.0)
    holding = Training(served, tmp_path / "holding", SILENT_S)
    both = (stopped, holding)
    try:
        for one in both:
            eventually(one.begun, 60, "the training never began")
        os.kill(stopped.process.pid, signal.SIGSTOP)
        (holding.folder / "hold").touch()
        since = time.monotonic()
        time.sleep(2.0)
        for one in both:
            served.client.post(
                f"/api/runs/{one.id}/commands", {"kind": "set_lr", "args": {"lr": 0.5}}
            )
            eventually(one.silences, 40, "nobody told the silence")
            assert one.status in ("live", "stalled")
        for one in both:
            left = since + SILENT_S - time.monotonic()
            eventually(lambda one=one: one.status == "lost", left, "never told as lost")
        time.sleep(max(0.0, since + SILENT_S - time.monotonic()))
        os.kill(stopped.process.pid, signal.SIGCONT)
        for one in both:
            eventually(lambda one=one: one.status == "live", 40, "did not come back")
            eventually(
                lambda one=one: [s["state"] for s in one.silences()] == ["resolved"],
                60,
                "the silence was not taken back",
            )
            (one.folder / "end").touch()
        for one in both:
            said, _ = one.process.communicate(timeout=60)
            assert one.process.returncode == 0
            steps, rate = said.split()
            assert float(rate) == 0.1, "a command that was out of date was applied"
            (sent,) = served.client.get(f"/api/runs/{one.id}/commands")["commands"]
            assert sent["state"] == "expired"
            stored = [float(n) for n in range(int(steps))]
            eventually(
                lambda one=one, n=stored: served.points(one.id, "v") == n, 60, "points differ"
            )
            assert served.run(one.id)["beat"]["dropped"] == {}
            assert one.told <= {"live", "stalled", "lost"}
    finally:
        for one in both:
            one.process.kill()
            one.process.wait()
