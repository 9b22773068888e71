"""The exception that ended a training, from the process to the incident."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanwatch.cli.local_server import environment
from nanwatch.contract import frames as f
from sdk.served import Served
from server.wire import RUN, Wire, table

TRAINING = """
import sys
import torch, nanwatch
torch.manual_seed(0)
nanwatch.init("p", name="dies", config={})
policy = torch.nn.Linear(4, 3)
optimizer = torch.optim.Adam(policy.parameters())
for step in range(60):
    states = torch.randn(16, 4)
    if step == 50:
        states[3, 1] = float(sys.argv[1])
    if step == 50 and sys.argv[1] == "0":
        {}["state"]
    pi = torch.distributions.Categorical(logits=policy(states))
    loss = -pi.log_prob(pi.sample()).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "data")
    yield server
    server.stop()


def notes(served: Served, run: str) -> list[dict[str, Any]]:
    """Notes of the run once it has ended."""
    deadline = time.monotonic() + 60
    while served.run(run)["status"] != "ended" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert served.run(run)["status"] == "ended"
    marks = served.client.get(f"/api/runs/{run}/events")["marks"]
    return [mark for mark in marks if mark["what"] == "note"]


def incidents(served: Served, run: str) -> list[dict[str, Any]]:
    return served.client.get(f"/api/runs/{run}/incidents")["incidents"]


def test_a_training_that_dies_of_nan_before_it_is_measured_opens_an_incident(
    served: Served, tmp_path: Path
) -> None:
    """`Categorical` refuses NaN: there is no loss, no gradient, and no other sign of it."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, "nan"],
        env=environment(served),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "ValueError: Expected parameter" in done.stderr
    (run,) = [one["id"] for one in served.client.get("/api/runs")["runs"]]
    (told,) = notes(served, run)
    assert told["text"].startswith("exception: ValueError: ")
    assert told["step"] == 50 and "found invalid values" in told["text"]
    deadline = time.monotonic() + 30
    while not (found := incidents(served, run)) and time.monotonic() < deadline:
        time.sleep(0.1)
    (incident,) = found
    assert incident["title"].startswith("Training died of NaN: Expected parameter")
    assert incident["severity"] == "critical" and incident["fired_step"] == 50


def test_another_exception_is_a_mark_and_no_incident(served: Served) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, "0"], env=environment(served), capture_output=True
    )
    assert done.returncode == 1
    (run,) = [one["id"] for one in served.client.get("/api/runs")["runs"]]
    (mark,) = notes(served, run)
    assert mark["text"] == "exception: KeyError: 'state'"
    time.sleep(1)
    assert incidents(served, run) == []


def test_a_repeated_goodbye_tells_it_once(served: Served) -> None:
    texts: list[str] = []
    said = "RuntimeError: Function 'MulBackward0' returned nan\0 values"
    for _ in range(2):
        with Wire(served.url, served.token) as wire:
            wire.hello()
            wire.send(f.Declare(series=[f.SeriesDecl(0, "loss")]))
            points = table([0], [1, 2], [[1.0, 0.5]])
            wire.send(f.Batch(lane="scalars", first=0, records=[points]))
            wire.acked("scalars", 0)
            wire.send(f.Bye(events=-1, scalars=0, reason=said, exit_code=1))
            texts = [mark["text"] for mark in notes(served, RUN)]
    assert texts == ["exception: RuntimeError: Function 'MulBackward0' returned nan values"]
    assert [one["fired_step"] for one in incidents(served, RUN)] == [2]


def test_each_process_of_a_run_tells_of_its_own_end(served: Served) -> None:
    """Their numbers are random: a later one may be smaller."""
    texts: list[str] = []
    ends = ((900, "ValueError: the first"), (3, "KeyError: the second"), (1, "KeyboardInterrupt: "))
    for epoch, said in ends:
        with Wire(served.url, served.token) as wire:
            wire.hello(epoch=epoch, started_at=2000.0 - epoch)
            wire.send(f.Bye(events=-1, scalars=-1, reason=said, exit_code=1))
            texts = [mark["text"] for mark in notes(served, RUN)]
    assert texts == [
        "exception: ValueError: the first",
        "exception: KeyError: the second",
        "exception: KeyboardInterrupt",
    ]
