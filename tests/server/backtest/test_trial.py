"""A whole run through the rules: the same however it is cut, in one file or another."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from nanwatch_server.backtest.logs import Reading
from nanwatch_server.backtest.trial import NO_TIMES, Verdict
from nanwatch_server.domain.models import Severity
from nanwatch_server.importers import rows
from nanwatch_server.importers.discover import find


def sick(steps: int = 1_600, timed: bool = False) -> list[dict[str, Any]]:
    """A gradient that doubles every 35 steps from step 900 on, then overflows and heals."""
    rng = random.Random(7)
    found: list[dict[str, Any]] = [{"event": "config", "config": {"lr": 3e-4}}]
    norm = 1.0
    for step in range(steps):
        norm = norm * 1.02 if 900 < step < 1_300 else 1.0
        seen = norm * math.exp(rng.gauss(0, 0.1))
        line: dict[str, Any] = {
            "step": step,
            "loss": 0.5 + 2 * math.exp(-step / 500) + rng.gauss(0, 0.02),
            "grad_norm": "Infinity" if step == 1_299 else seen,
            "grad_norm_layer": {"gru": 0.9 * seen, "fc": 0.1 * seen},
            "update_applied": step != 1_299,
        }
        if step % 10 == 0:
            line["lr"] = 3e-4
        if timed:
            line["time"] = 1.7e9 + step / 10
        found.append(line)
    return found


def judged(path: Path, lines: list[dict[str, Any]], **facts: str) -> Verdict:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (source,) = find(path).sources
    reading = Reading(source, facts)
    reading.read()
    return reading.finish()


def test_an_explosion_is_told_early_and_its_end_at_its_step(tmp_path: Path) -> None:
    verdict = judged(tmp_path / "a.jsonl", sick())
    (incident,) = verdict.incidents
    assert incident.severity == Severity.CRITICAL and verdict.worst == Severity.CRITICAL
    assert 850 <= incident.onset_step <= 950 < incident.fired_step < 1_299
    assert incident.resolved_step is not None and 1_300 < incident.resolved_step < 1_600
    assert not verdict.failures and verdict.points == 1_600 * 5 + 160
    assert (verdict.first_step, verdict.last_step) == (0, 1_599)


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_the_window_changes_nothing(tmp_path: Path, size: int, monkeypatch: Any) -> None:
    whole = judged(tmp_path / "a.jsonl", sick()).plain()
    monkeypatch.setattr(rows, "WINDOW_ROWS", size)
    assert judged(tmp_path / "a.jsonl", sick()).plain() == whole


def test_the_same_in_another_format_and_in_split_lines(tmp_path: Path) -> None:
    whole = judged(tmp_path / "a.jsonl", sick()).plain()
    split: list[dict[str, Any]] = []
    for line in sick():
        if "step" in line:
            split += [
                {"step": line["step"], name: value}
                for name, value in line.items()
                if name != "step"
            ]
        else:
            split.append(line)
    assert judged(tmp_path / "b.jsonl", split).plain() == whole
    path = tmp_path / "c.csv"
    with open(path, "w") as file:
        file.write("step,loss,grad_norm,gradients/gru,gradients/fc,update_applied,lr\n")
        for line in sick()[1:]:
            layers = line["grad_norm_layer"]
            cells = [line["step"], line["loss"], line["grad_norm"], layers["gru"], layers["fc"]]
            cells += [line["update_applied"], line.get("lr", "")]
            file.write(",".join(map(str, cells)) + "\n")
    (source,) = find(path).sources
    reading = Reading(source, {"lr": "0.0003"})
    reading.read()
    assert reading.finish().plain() == whole


def test_time_speaks_only_where_the_log_has_times(tmp_path: Path) -> None:
    end = {"event": "end", "time": 1.7e9 + 160 + 7_200}
    silent = judged(tmp_path / "a.jsonl", [*sick(400), {**end, "time": 1e9}])
    assert not any(one.rule == "stall" for one in silent.findings)
    (why,) = {one["why"] for one in silent.coverage if one["rule"] == "stall"}
    assert why == NO_TIMES
    stalled = judged(tmp_path / "b.jsonl", [*sick(400, timed=True), end])
    assert any(one.rule == "stall" for one in stalled.findings)


def test_what_a_person_says_wins_over_the_log(tmp_path: Path) -> None:
    said = judged(tmp_path / "a.jsonl", sick(), lr="0.5")
    texts = [one.text for one in said.incidents[0].diagnosis.suggestions]
    assert any("0.5" in text for text in texts) and not any("0.0003" in text for text in texts)


def test_the_plain_form_is_the_design_s(tmp_path: Path) -> None:
    plain = judged(tmp_path / "a.jsonl", sick()).plain()
    assert list(plain) == ["findings", "incidents", "coverage"]
    for one in plain["findings"]:
        assert list(one) == ["rule", "severity", "step", "scope", "layer", "message"]
        assert one["severity"] in ("notice", "warning", "critical")
    for one in plain["incidents"]:
        assert list(one) == [
            *("syndrome", "severity", "onset_step", "fired_step", "resolved_step", "suggestions")
        ]
    assert all({"rule", "scope", "ran", "why"} <= one.keys() for one in plain["coverage"])
    json.dumps(plain, allow_nan=False)


def test_a_healthy_log_is_silent(tmp_path: Path) -> None:
    lines = [line for line in sick() if line.get("step", 0) < 890]
    verdict = judged(tmp_path / "a.jsonl", lines)
    assert not verdict.incidents and verdict.worst in (None, Severity.NOTICE)


def test_spikes_and_nan_survive_in_the_traces(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with open(path, "w") as file:
        for step in range(100_000):
            value = {31_337: 1e9, 77_777: "NaN"}.get(step, 1.0)
            file.write(f'{{"step":{step},"custom":{{"x":1}},"lr":{json.dumps(value)}}}\n')
    (source,) = find(path).sources
    reading = Reading(source, {})
    reading.read()
    reading.finish()
    (series,) = reading.trial.traces.series()
    steps, values = reading.trial.traces.points(series)
    assert series.kind == "lr" and len(steps) < 70_000
    assert steps[values == 1e9].tolist() == [31_337]
    assert steps[[math.isnan(v) for v in values]].tolist() == [77_777]
    assert (steps[0], steps[-1]) == (0, 99_999)
