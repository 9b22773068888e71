"""JSON lines: canonical, and as others write them."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest

from nanwatch_server.importers.source import UnusableError
from tests.server.importers.reading import read

CANONICAL = [
    '{"event":"config","config":{"gamma":0.99,"optim":{"lr":0.001}}}',
    '{"step":7,"loss":2.1,"grad_norm":7.0,"clip_threshold":1.0,"update_applied":true,'
    '"grad_norm_layer":{"gru":4.7},"q1.q_mean":3.2}',
    '{"step":8,"loss":"NaN","grad_norm":"Infinity","q1.q_mean":"-Infinity"}',
    '{"step":9,"loss":NaN,"grad_norm":-Infinity,"update_applied":false}',
    '{"event":"task_start","name":"B"}',
    '{"step":10,"stage":"val","loss":1.5}',
    '{"step":10,"scope":"q2","q_mean":1,"mine":4}',
    '{"event":"end","time":1000}',
]


def lines(path: Path, *texts: str) -> Path:
    path.write_text("\n".join(texts) + "\n")
    return path


def test_the_canonical_form(tmp_path: Path) -> None:
    got = read(lines(tmp_path / "a.jsonl", *CANONICAL))
    assert got.points("update_applied") == [(7, 1.0), (9, 0.0)]
    assert got.points("grad_norm") == [(7, 7.0), (8, math.inf), (9, -math.inf)]
    assert got.points("grad_norm_layer", layer="gru") == [(7, 4.7)]
    assert got.points("q_mean", "q1") == [(7, 3.2), (8, -math.inf)]
    assert got.points("q_mean", "q2") == [(10, 1.0)]
    assert got.points("loss", stage="val") == [(10, 1.5)]
    assert math.isnan(got.points("loss")[1][1]) and math.isnan(got.points("loss")[2][1])
    assert [(mark.what, mark.step) for mark in got.marks] == [
        *(("config", 0), ("task", 9), ("note", 10)),
    ]
    assert got.source.config == {"gamma": "0.99", "optim.lr": "0.001"}
    assert got.source.rows.clock is False and not got.source.problems.count


def test_lines_of_one_step_are_one_row_and_an_earlier_step_is_a_resume(tmp_path: Path) -> None:
    steps = [*range(5), 3, 4, 5]
    texts = []
    for step in steps:
        texts += [f'{{"step":{step},"loss":1}}', f'{{"step":{step},"grad_norm":2}}']
    got = read(lines(tmp_path / "a.jsonl", *texts))
    assert [row.step for row in got.rows] == steps
    assert all(len(row.ids) == 2 for row in got.rows)
    assert [(mark.what, mark.step) for mark in got.marks] == [("resume", 3)]
    assert got.items.index(got.marks[0]) == 5


def test_a_resume_that_is_said_is_not_told_twice(tmp_path: Path) -> None:
    texts = [f'{{"step":{step},"loss":1}}' for step in range(5)]
    texts += ['{"event":"resume","step":2}', *texts[2:]]
    got = read(lines(tmp_path / "a.jsonl", *texts))
    assert [mark.text for mark in got.marks] == ["resume"]


def test_broken_lines_cost_themselves_only(tmp_path: Path) -> None:
    texts = [
        *('{"step":1,"loss":1}', "", "  ", "oops", '{"step":2,"loss":'),
        *('{"step":-3,"loss":1}', '{"step":1.5,"loss":1}', '{"step":4,"loss":"high"}', "[1]"),
        *('{"step":5}', '{"event":"party"}', '{"step":6,"loss":3,"note":"warm"}'),
        '{"step":7,"loss":null,"grad_norm":2}',
    ]
    got = read(lines(tmp_path / "a.jsonl", *texts))
    assert [row.step for row in got.rows] == [1, 6, 7]
    assert got.source.problems.count == 8
    assert got.source.problems.shown[0].startswith("line 4: expected a JSON object, got oops")
    assert got.source.mapper.places == {"note": None}


def test_compressed_cut_and_empty_files(tmp_path: Path) -> None:
    data = gzip.compress("\n".join(CANONICAL).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    got = read(tmp_path / "a.jsonl.gz")
    assert got.source.name == "a" and len(got.rows) == 4
    (tmp_path / "b.jsonl.gz").write_bytes(data[: len(data) // 2])
    try:
        broken = read(tmp_path / "b.jsonl.gz")
        assert "ends in the middle" in broken.source.problems.shown[-1]
    except UnusableError as error:  # nothing could be unpacked at all
        assert "ends in the middle" in str(error)
    (tmp_path / "c.jsonl").touch()
    with pytest.raises(UnusableError, match="is empty"):
        read(tmp_path / "c.jsonl")


def test_what_others_write(tmp_path: Path) -> None:
    """W&B's history: a step of another name, dots, texts, nested objects, `NaN` as a text."""
    texts = [
        json.dumps(
            {
                "_step": step,
                "_timestamp": 1.7e9 + step,
                "train/loss": "NaN" if step == 2 else 1.0,
                "grads": {"norm": {"a": 1}},
                "text": "hello",
            }
        )
        for step in range(0, 6, 2)
    ]
    got = read(lines(tmp_path / "history.jsonl", *texts))
    assert [step for step, _ in got.points("loss")] == [0, 2, 4]
    assert math.isnan(got.points("loss")[1][1])
    assert got.rows[1].time == 1.7e9 + 2 and got.source.rows.clock
    assert got.source.mapper.places["_step"] is None
    assert got.source.name == tmp_path.name, "history says nothing: the folder's name"


def test_canonical_lines_with_somebodys_names(tmp_path: Path) -> None:
    text = '{"step":1,"train/loss":2,"val.loss":3,"train":{"grad_norm":4},"accuracy":0.5}'
    got = read(lines(tmp_path / "a.jsonl", text), "accuracy=entropy:pi")
    assert got.points("loss") == [(1, 2.0)] and got.points("loss", stage="val") == [(1, 3.0)]
    assert got.points("grad_norm") == [(1, 4.0)] and got.points("entropy", "pi") == [(1, 0.5)]


def test_times_count_only_if_the_log_has_them(tmp_path: Path) -> None:
    texts = ['{"step":1,"time":5,"loss":1}', '{"step":2,"loss":1}', '{"step":3,"time":9,"loss":1}']
    got = read(lines(tmp_path / "a.jsonl", *texts))
    assert [row.time for row in got.rows] == [5.0, 5.0, 9.0] and got.source.rows.clock
    bare = read(lines(tmp_path / "b.jsonl", '{"step":7,"loss":1}', texts[2]))
    assert [row.time for row in bare.rows] == [7.0, 3.0] and bare.source.rows.clock is False
    stood = read(tmp_path / "b.jsonl", stand_in=lambda path: 1.5e9)
    assert {row.time for row in stood.rows} == {1.5e9}


def test_numbers_as_texts_and_very_long_lines(tmp_path: Path) -> None:
    got = read(lines(tmp_path / "a.jsonl", '{"step":"7","loss":"0.5","tag":"x"}'))
    assert got.points("loss") == [(7, 0.5)]
    layers = ",".join(f'"block.{n}.self_attention.projection.weight":1' for n in range(9_000))
    got = read(lines(tmp_path / "b.jsonl", f'{{"step":1,"grad_norm_layer":{{{layers}}}}}'))
    assert len(got.rows[0].ids) == 9_000 and not got.source.problems.count


def test_a_clock_that_counts_from_the_start_is_none_for_what_is_stored(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", '{"global_step":1,"time_elapsed":5.0,"loss":1}')
    assert read(path).rows[0].time == 5.0
    assert read(path, stand_in=lambda path: 1.5e9).rows[0].time == 1.5e9
