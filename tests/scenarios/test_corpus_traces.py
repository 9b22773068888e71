"""Traces keep what the wire carried; programs are recorded by the real SDK in a process apart."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scenarios.corpus import record, traces
from scenarios.corpus.about import About
from scenarios.corpus.judged import judge, warned_at
from scenarios.corpus.labels import label
from scenarios.corpus.traces import Trace, kept, rounded

from nanwatch.contract.frames import Mark
from nanwatch_server.domain.models import Series
from nanwatch_server.domain.points import Points

ABOUT = About(family="regression", sick=False, seeds=1)


def series(number: int, kind: str, layer: str = "", scope: str = "") -> Series:
    return Series(id=number, run_id="r", rank=0, stage="train", scope=scope, kind=kind, layer=layer)


def points(at: int, values: list[list[float]], *which: Series) -> Points:
    steps = np.arange(at, at + len(values[0]))
    return Points(tuple(which), steps, 1e9 + steps / 100, np.array(values, np.float64))


LOSS, NORM = series(0, "loss"), series(1, "grad_norm")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    odd = [0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e300, 1e-300, -2.5]
    mark = Mark(what="task", step=9, time=1e9, text="second", data={"task": "2"})
    parts = (points(0, [odd, odd], LOSS, NORM), mark, points(9, [[0.1, 0.2]], LOSS))
    made = Trace("made", 3, ABOUT, {"lr": "0.1"}, "ValueError: no", parts)
    traces.save("made", ABOUT, [made], tmp_path)
    (found,) = traces.load("made", tmp_path)
    assert (found.seed, found.about, found.facts, found.ending) == (3, ABOUT, {"lr": "0.1"},
                                                                   "ValueError: no")  # fmt: skip
    assert [item[0] for item in found.replay()] == ["points", "mark", "points"]
    assert found.marks == [mark]
    first, last = found.tables
    assert np.array_equal(first.values.view(np.uint64), parts[0].values.view(np.uint64))
    assert first.steps.tolist() == list(range(9)) and last.steps.tolist() == [9, 10]
    assert np.allclose(first.times, parts[0].times, atol=0.0006, rtol=0)
    assert [one.kind for one in first.series] == ["loss", "grad_norm"]
    assert traces.names(tmp_path) == ["made"]


def test_a_program_that_was_never_recorded_says_how(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="record nothing"):
        traces.load("nothing", tmp_path)


def test_rounding_keeps_what_rules_look_for() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.exp(rng.normal(0, 20, 1000)), [0.0, 1.0, np.inf, -np.inf, 1e-320]])
    found = rounded(values, 12)
    assert np.abs(found[:1000] / values[:1000] - 1).max() < 2.0**-12
    assert np.array_equal(found[1000:], values[1000:])
    assert np.isnan(rounded(np.array([np.nan]), 12)).all()
    largest = float(np.finfo(np.float32).max)
    assert rounded(np.array([largest]), 12)[0] == largest  # never up into infinity


def test_tables_are_joined_and_never_across_a_mark() -> None:
    mark = Mark(what="eval", step=3, time=1e9)
    single = [points(at, [[float(at)], [1.0]], LOSS, NORM) for at in range(6)]
    found = kept([*single[:3], mark, *single[3:]])
    assert [part.steps.tolist() if isinstance(part, Points) else part for part in found] == [
        [0, 1, 2],
        mark,
        [3, 4, 5],
    ]
    long = kept([points(0, [list(range(1000))], LOSS)])
    assert all(len(part.steps) <= traces.ATTEMPTS for part in long if isinstance(part, Points))
    assert np.concatenate([p.steps for p in long if isinstance(p, Points)]).tolist() == list(
        range(1000)
    )


def test_the_machine_and_most_of_many_layers_are_left_out() -> None:
    layers = [series(10 + i, "grad_norm_layer", f"layers.{i}") for i in range(40)]
    machine = series(2, "sdk_overhead")
    (found,) = kept([points(0, [[1.0]] * 42, LOSS, machine, *layers)])
    assert isinstance(found, Points)
    names = [one.layer for one in found.series if one.layer]
    assert len(names) == traces.LAYERS_MOST
    assert names[0] == "layers.0" and names[-1] == "layers.39"
    assert "sdk_overhead" not in {one.kind for one in found.series}


def test_a_half_is_given_once_and_groups_are_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "SPLIT", tmp_path / "split.json")
    programs = [(f"p{i}", About("lm" if i % 3 else "gan", False)) for i in range(20)]
    programs += [(f"s{i}", About("lm", True, f"cause{i % 4}")) for i in range(20)]
    first = {name: traces.assign(name, about) for name, about in programs}
    assert first == {name: traces.assign(name, about) for name, about in reversed(programs)}
    assert first == {name: traces.half(name) for name, _ in programs}
    for cause in range(4):
        halves = [first[f"s{i}"] for i in range(20) if i % 4 == cause]
        assert abs(halves.count("tuned") - halves.count("scored")) <= 1
    sides = [half for name, half in first.items() if name.startswith("p")]
    assert abs(sides.count("tuned") - sides.count("scored")) <= 2


def test_every_recorded_program_has_a_half_and_carries_nothing_of_the_machine() -> None:
    split = json.loads(traces.SPLIT.read_text())
    assert set(traces.names()) == set(split)
    sizes = [path.stat().st_size for path in traces.HERE.glob("*.trace")]
    assert sum(sizes) <= 64 << 20
    for name in traces.names()[::10]:
        for trace in traces.load(name):
            assert not record.PRIVATE & set(trace.facts)


@pytest.mark.scenario
@pytest.mark.timeout(240)
def test_a_program_is_recorded_by_the_real_sdk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert record.record(["mlp_regression"], 1, 1, tmp_path) == 0
    assert "1200" in capsys.readouterr().out
    (trace,) = traces.load("mlp_regression", tmp_path)
    loss = next(c for one, c in trace.series().items() if one.kind == "loss")
    norm = next(c for one, c in trace.series().items() if one.kind == "grad_norm")
    assert loss[0].tolist() == list(range(1, 1201)) == norm[0].tolist()
    assert trace.marks[0].what == "config" and trace.facts["hidden"] == "32"
    assert label(trace).kind == "healthy"
    verdict = judge(trace)
    assert warned_at(verdict) is None and not verdict.failures
