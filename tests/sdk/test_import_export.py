"""`nanwatch import` and `export` with a real server: once however often, and bit for bit."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdk.served import Served

ODD = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308, 0.1, -1.5]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("server"))
    yield found
    found.stop()


def cli(server: Served, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", *arguments],
        env={**clean, "NANWATCH_DATA_DIR": str(server.data_dir), "COLUMNS": "300"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def runs(server: Served, name: str) -> list[dict[str, Any]]:
    return [r for r in server.client.get("/api/runs")["runs"] if r["name"] == name]


def bits(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def odd_log(path: Path, count: int = 900) -> list[float]:
    """Repeated and large steps, odd values, several scopes, stages and layers, marks."""
    values = [ODD[n % len(ODD)] for n in range(count)]
    with open(path, "w") as file:
        print('{"event":"config","config":{"gamma":0.99}}', file=file)
        for n, value in enumerate(values):
            step = (1 << 53) - 1 if n == count - 1 else n // 3
            line: dict[str, Any] = {"step": step, "time": 1.7e9 + n / 8, "a name": value}
            line |= {"q1.q_mean": n, "grad_norm_layer": {"gru.w": value}}
            print(json.dumps(line), file=file)
            if n == 450:
                print('{"event":"task_start","name":"B"}', file=file)
            print(json.dumps({"step": n, "time": 1.7e9, "stage": "val", "loss": n}), file=file)
    return values


def test_a_log_becomes_a_run_with_its_incidents_once(server: Served, tmp_path: Path) -> None:
    path = tmp_path / "sick.csv"
    losses = [0.5 + 2 * math.exp(-step / 400) + step % 5 / 100 for step in range(1_200)]
    lines = ["step,train/loss,grad_norm"]
    for step in range(1_200):
        norm = 1.02 ** max(0, step - 700) * (1 + 0.1 * (step % 7))
        lines.append(f"{step},{losses[step]!r},{norm!r}")
    path.write_text("\n".join(lines[:901]) + "\n")
    for _ in range(2):
        done = cli(server, tmp_path, "import", "sick.csv", "--project", "logs", "--name", "sick")
        assert done.returncode == 0, done.stderr
    assert "0 points stored, 900 rows were there already" in done.stderr
    path.write_text("\n".join(lines) + "\n")
    done = cli(server, tmp_path, "import", "sick.csv", "--project", "logs", "--name", "sick")
    assert "600 points stored, 900 rows were there already" in done.stderr
    (run,) = runs(server, "sick")
    assert run["status"] == "ended" and run["project"] == "logs"
    deadline = time.monotonic() + 20
    while not (found := server.client.get(f"/api/runs/{run['id']}/incidents")["incidents"]):
        assert time.monotonic() < deadline, "no incident"
        time.sleep(0.2)
    assert found[0]["syndrome"] == "exploding-gradient"
    assert server.points(run["id"], kind="loss") == losses
    judged = cli(server, tmp_path, "check", run["id"][:12], "--format", "json")
    same = json.loads(judged.stdout)["incidents"][0]
    names = ("syndrome", "severity", "onset_step", "fired_step")
    assert {n: same[n] for n in names} == {n: found[0][n] for n in names}
    last = cli(server, tmp_path, "check", "--last", "5", "--project", "logs")
    assert "would have fired 1× on 1 run" in last.stdout and last.returncode == 1


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_out_and_in_again_bit_for_bit(server: Served, tmp_path: Path, form: str) -> None:
    values = odd_log(tmp_path / f"odd-{form}.jsonl")
    assert cli(server, tmp_path, "import", f"odd-{form}.jsonl").returncode == 0
    (run,) = runs(server, f"odd-{form}")
    done = cli(server, tmp_path, "export", f"odd-{form}", "--format", form)
    assert done.returncode == 0 and f"wrote odd-{form}.{form}" in done.stderr, done.stderr
    back = cli(server, tmp_path, "import", f"odd-{form}.{form}", "--name", f"again-{form}")
    assert back.returncode == 0, back.stderr
    (again,) = runs(server, f"again-{form}")
    for kind, layer in (("custom", "a_name"), ("grad_norm_layer", "gru.w"), ("q_mean", "")):
        first = server.points(run["id"], layer, kind)
        assert bits(first) == bits(server.points(again["id"], layer, kind)), kind
    assert bits(server.points(again["id"], "a_name")) == bits(values)
    stdout = cli(server, tmp_path, "export", again["id"], "--format", "csv", "--out", "-").stdout
    before = cli(server, tmp_path, "export", run["id"], "--format", "csv", "--out", "-").stdout
    assert stdout.startswith("stage,scope,kind,layer,rank,step,time,value\n")
    assert sorted(stdout.splitlines()) == sorted(before.splitlines())
    if form == "jsonl":
        marks = server.client.get(f"/api/runs/{again['id']}/events")["marks"]
        assert [(m["what"], m["text"]) for m in marks][-1] == ("task", "task_start: B")
        assert server.run(again["id"])["config"]["gamma"] == "0.99"


def test_over_http_from_another_machine(server: Served, tmp_path: Path) -> None:
    odd_log(tmp_path / "far.jsonl", 60)
    assert cli(server, tmp_path, "import", "far.jsonl").returncode == 0
    admin = json.loads((server.data_dir / "server.json").read_text())["admin_token"]
    remote = ["export", "far", "--server", server.url, "--token", admin, "--format", "jsonl"]
    done = cli(server, tmp_path, *remote, "--out", "far-out.jsonl")
    assert done.returncode == 0, done.stderr
    local = cli(server, tmp_path, "export", "far", "--format", "jsonl", "--out", "-").stdout
    assert (tmp_path / "far-out.jsonl").read_text() == local
    wrong = cli(server, tmp_path, "export", "far", "--server", server.url, "--token", "x")
    assert wrong.returncode == 1 and "refused (401)" in wrong.stderr
    assert not list(tmp_path.glob("*.part")) and not (tmp_path / "far.csv").exists()


def test_folders_and_what_cannot_be_done_is_said(server: Served, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        (tmp_path / "logs" / name / "metrics.csv").write_text(f"step,loss\n1,{len(name)}\n")
    (tmp_path / "logs" / "notes.csv").write_text("1,2\n")
    done = cli(server, tmp_path, "import", "logs", "--project", "many")
    assert done.returncode == 0 and "passed over: notes.csv" in done.stderr
    assert len(runs(server, "one")) == len(runs(server, "two")) == 1
    both = cli(server, tmp_path, "import", "logs", "--name", "x")
    assert both.returncode == 2 and "--name goes with one run" in both.stderr
    assert cli(server, tmp_path, "import", "absent").returncode == 2
    unknown = cli(server, tmp_path, "export", "nobody")
    assert unknown.returncode == 1 and "no run is called 'nobody'" in unknown.stderr
    assert "expected --format" in cli(server, tmp_path, "export", "one", "--format", "x").stderr
