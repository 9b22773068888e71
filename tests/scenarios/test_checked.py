"""A real training, judged live and afterwards from its log: the same findings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nanwatch.cli.local_server import Browser, LocalServer, environment

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def nanwatch(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "nanwatch", *arguments],
        env={**os.environ, "NANWATCH_DATA_DIR": str(directory / "data")},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def brief(incident: dict[str, Any]) -> dict[str, Any]:
    names = ("syndrome", "severity", "onset_step", "fired_step")
    return {name: incident[name] for name in names}


def told(findings: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    names = ("rule", "severity", "step", "scope", "layer", "message")
    return {tuple(one[name] for name in names) for one in findings}


def test_the_log_of_a_training_says_what_the_live_rules_said(tmp_path: Path) -> None:
    server = LocalServer(tmp_path / "data", 0)
    try:
        client = Browser(server.url, server.login_url)
        subprocess.run(
            [sys.executable, str(SCENARIOS / "gru.py"), "--steps", "900"],
            env=environment(server) | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            timeout=200,
        )
        (run,) = client.get("/api/runs")["runs"]
        deadline = time.monotonic() + 60
        while client.get(f"/api/runs/{run['id']}")["status"] != "ended":
            assert time.monotonic() < deadline, "the end of the run never arrived"
            time.sleep(0.2)
        time.sleep(3.0)
        live = client.get(f"/api/runs/{run['id']}/incidents")["incidents"]
        live.sort(key=lambda one: one["fired_step"])
        assert live, "the training was to explode"
        for form in ("jsonl", "csv"):
            nanwatch(tmp_path, "export", run["id"], "--format", form, "--out", f"x.{form}")
        again = nanwatch(tmp_path, "check", run["id"], "--format", "json")
    finally:
        server.stop()
    stored = json.loads(again)
    logged = json.loads(nanwatch(tmp_path, "check", "x.jsonl", "--format", "json"))
    config = tmp_path / "config.json"
    first = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])
    config.write_text(json.dumps(first["config"]))
    table = json.loads(
        nanwatch(tmp_path, "check", "x.csv", "--config", "config.json", "--format", "json")
    )
    for checked in (stored, logged):
        assert [brief(one) for one in checked["incidents"]] == [brief(one) for one in live]
        assert [one["suggestions"] for one in checked["incidents"]] == [
            one["suggestions"] for one in live
        ]
    kept = [finding for one in live for finding in one["findings"]]
    assert told(kept) <= told(stored["findings"])
    # a table has no marks, so nobody says in it how the training ended
    died = [one for one in kept if one["title"].startswith("Training died")]
    assert told(kept) - told(died) <= told(table["findings"])
    if not died:
        assert [brief(one) for one in table["incidents"]] == [brief(one) for one in live]
    assert told(stored["findings"]) == told(logged["findings"])
