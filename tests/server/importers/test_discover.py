"""What a folder holds; transformers' own log."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nanwatch_server.importers.discover import find
from nanwatch_server.importers.source import UnusableError
from tests.server.importers.reading import read, read_all


def state(path: Path, last: int) -> None:
    """As transformers saves it, by its own class."""
    callbacks = pytest.importorskip("transformers.trainer_callback")
    history = [
        {"loss": 2.0 / step, "grad_norm": math.nan if step == 3 else 1.0, "learning_rate": 0.1,
         "epoch": step / 10, "step": 10 * step}
        for step in range(1, last + 1)
    ]  # fmt: skip
    history.append({"eval_loss": 3.0, "eval_runtime": 1.0, "epoch": 0.3, "step": 30})
    history.append({"train_runtime": 9.0, "train_loss": 77.0, "total_flos": 1e9, "step": 30})
    path.parent.mkdir(parents=True, exist_ok=True)
    trainer = callbacks.TrainerState(
        global_step=10 * last, max_steps=100, logging_steps=10, log_history=history
    )
    trainer.save_to_json(str(path))


def test_trainer_state(tmp_path: Path) -> None:
    for last in (2, 3):
        state(tmp_path / "gpt" / f"checkpoint-{10 * last}" / "trainer_state.json", last)
    got = read(tmp_path)
    assert got.source.name == "gpt" and got.source.format == "trainer_state.json"
    assert got.points("loss") == [(10, 2.0), (20, 1.0), (30, 2.0 / 3)], "the newest checkpoint's"
    assert math.isnan(got.points("grad_norm")[2][1])
    assert got.points("loss", stage="val") == [(30, 3.0)]
    assert got.source.config["max_steps"] == "100"
    assert not any("77" in str(point) for point in got.points("loss"))


def test_a_list_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps([{"step": 1, "loss": 2.0}, {"step": 2, "loss": "nan"}], indent=1))
    assert read(path).points("loss")[0] == (1, 2.0)
    path.write_text('{"log_history": 5}')
    with pytest.raises(UnusableError, match="expected log_history"):
        read(path)


def test_a_folder_of_many_things(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "metrics.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "b" / "points.jsonl").write_text('{"step":1,"loss":3}\n')
    (tmp_path / "b" / "data.csv").write_text("1,2\n3,4\n")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.csv").write_text("step,loss\n1,2\n")
    found = find(tmp_path)
    assert [source.name for source in found.sources] == ["a", "b"]
    assert len(found.passed_over) == 1 and "data.csv" in found.passed_over[0]
    assert [got.points("loss") for got in read_all(tmp_path)] == [[(1, 2.0)], [(1, 3.0)]]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="found nothing at"):
        find(tmp_path / "absent")
    with pytest.raises(UnusableError, match="expected logs in"):
        find(tmp_path)
