"""`nanwatch check` as a person and a script call it."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nanwatch.cli.terminal_chart import chart


def cli(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NANWATCH_")}
    return subprocess.run(
        [sys.executable, "-m", "nanwatch", "check", *arguments],
        env={**clean, "NANWATCH_DATA_DIR": str(cwd / "data"), "COLUMNS": "100", **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def exploding(path: Path, steps: int = 1_300, name: str = "loss") -> Path:
    """Grows from step 700 on and ends in NaN."""
    lines = [{"event": "config", "config": {"lr": 3e-4}}]
    for step in range(steps):
        norm = 1.02 ** max(0, step - 700) * (1 + 0.1 * (step % 7))
        value: Any = "NaN" if step > 1_250 else 0.5 + 2 * math.exp(-step / 400) + step % 5 / 100
        lines.append({"step": step, name: value, "grad_norm": norm})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_person_sees_what_when_why_and_what_to_try(tmp_path: Path) -> None:
    exploding(tmp_path / "a.jsonl", name="train/loss")
    done = cli("a.jsonl", "--html", "report.html", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    out = done.stdout
    assert "CRITICAL" in out and "exploding-gradient" in out
    assert re.search("▲ onset (69|7[0-2])", out) and "log" in out and "Could not be checked:" in out
    assert "treats the cause" in out and "3e-05" in out and "clip_grad_norm_" in out
    assert "no clip_threshold sent: clip_saturation" in " ".join(out.split())
    assert re.search(r"measures \(layers, updates, logits\): \d+ rules", " ".join(out.split()))
    assert "train/loss → loss" in done.stderr and "Traceback" not in done.stderr
    page = (tmp_path / "report.html").read_text()
    assert "exploding-gradient" in page and "Plotly.newPlot" in page and "http" not in page[:2_000]


def test_a_script_gets_json_and_nothing_else(tmp_path: Path) -> None:
    exploding(tmp_path / "a.jsonl")
    done = cli("a.jsonl", "--format", "json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == 1 and list(told) == ["findings", "incidents", "coverage"]
    (incident,) = told["incidents"]
    assert incident["severity"] == "critical" and incident["resolved_step"] is None
    assert 680 <= incident["onset_step"] <= 730 < incident["fired_step"] < 1_250
    exploding(tmp_path / "b.jsonl", 600)
    done = cli(".", "--format", "json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert [run["run"] for run in told["runs"]] == ["a", "b"] and done.returncode == 1
    healthy = cli("b.jsonl", "--format", "json", cwd=tmp_path)
    assert healthy.returncode == 0 and not json.loads(healthy.stdout)["incidents"]


def test_a_person_s_limits_map_and_facts(tmp_path: Path) -> None:
    exploding(tmp_path / "a.jsonl", 1_100, name="mine")
    (tmp_path / "r.toml").write_text("# mine\n[grad_explosion]\nenabled = false\n")
    quiet = cli("a.jsonl", "--rules", "r.toml", "--format", "json", cwd=tmp_path)
    rules = {one["rule"] for one in json.loads(quiet.stdout)["findings"]}
    assert "grad_explosion" not in rules
    mapped = cli("a.jsonl", "--map", "mine=loss", "--config", "T=256", cwd=tmp_path)
    assert "mine → loss" in mapped.stderr and "bptt" in mapped.stdout
    (tmp_path / "bad.toml").write_text("[grad_explosion]\n\nfactor = 'high'\n")
    bad = cli("a.jsonl", "--rules", "bad.toml", cwd=tmp_path)
    assert bad.returncode == 2 and "line 3: expected a number for" in bad.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent.csv"], "found nothing at absent.csv"),
        ([], "expected a file, a folder or the id of a run"),
        (["t.csv"], "no column of t.csv is known (found: a, b)"),
        (["t.csv", "--map", "a"], "expected NAME=KIND"),
        (["t.csv", "--format", "xml"], "expected --format text or json"),
        (["t.csv", "--rules", "absent.toml"], "cannot read absent.toml"),
        (["empty.jsonl"], "empty.jsonl is empty"),
        (["binary.csv"], "expected a first line with names"),
        (["--last", "3"], "found no nanwatch.sqlite"),
        (["abcdef12"], "found no nanwatch.sqlite"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_growing_log_is_followed(tmp_path: Path) -> None:
    whole = exploding(tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(whole[:400]))
    with open(tmp_path / "told", "w") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "nanwatch", "check", "a.jsonl", "--follow", "--format", "text"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
    try:
        with open(path, "a") as file:
            for start in range(400, len(whole) - 100, 300):
                file.write("".join(whole[start : start + 300]))
                file.flush()
                time.sleep(0.5)
        deadline = time.monotonic() + 60
        while "critical" not in (tmp_path / "told").read_text() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    said = (tmp_path / "told").read_text()
    assert "following; Ctrl-C ends it" in said and "critical " in said, said
    assert process.returncode == 1 and "exploding-gradient" in out


def test_charts_fit_and_hide_nothing() -> None:
    steps = list(range(1_000))
    lines = chart(steps, [1.0] * 500 + [1e6] + [1.0] * 498 + [float("nan")], onset=500, width=60)
    assert all(len(line) <= 60 for line in lines)
    assert "×" in lines[0] and "1e+06" in lines[1] and "onset 500" in lines[-1]
    assert chart([1], [float("nan")]) == [] and chart([5], [2.0], onset=5)
    assert chart(steps, [-1e308, 1e308] * 500)
