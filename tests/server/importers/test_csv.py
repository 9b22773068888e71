"""CSV of many makers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nanwatch_server.importers.source import UnusableError
from tests.server.importers.reading import read, read_all


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_ragged_gaps_words_and_header_again(tmp_path: Path) -> None:
    text = (
        "step,loss,grad_norm,note\n"
        "1,1.0,2.0,a\n"
        "\n"
        "2,NaN,inf,b\n"
        "3,,-Infinity\n"
        "4,5,6,c,surplus\n"
        "step,loss,grad_norm,note\n"
        "x,1,1,d\n"
        "5,high,7,e\n"
        ",1,1,f\n"
        "6.0,null,8,g\n"
    )
    got = read(table(tmp_path / "a.csv", text))
    loss, norm = got.points("loss"), got.points("grad_norm")
    assert [step for step, _ in loss] == [1, 2, 4] and math.isnan(loss[1][1])
    assert norm == [(1, 2.0), (2, math.inf), (3, -math.inf), (4, 6.0), (5, 7.0), (6, 8.0)]
    said = got.source.problems.shown
    assert said[0] == "line 5: expected 4 cells, got 3; the missing ones are taken as empty"
    assert any("expected a step from 0, got 'x'" in one for one in said)
    assert got.source.mapper.notes["note"] == "texts, left out"


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_delimiters_bom_and_no_step(tmp_path: Path, mark: str) -> None:
    text = "\ufeff" + mark.join(["loss", "lr"]) + "\r\n" + mark.join(["1", "0.1"]) + "\r\n"
    got = read(table(tmp_path / "a.tsv", text + mark.join(["2", "0.2"])))
    assert got.points("loss") == [(0, 1.0), (1, 2.0)], "no column counts steps: the rows do"


def test_a_table_without_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match="expected a first line with names of columns"):
        read(table(tmp_path / "a.csv", "1,2,3\n4,5,6\n"))


def test_stable_baselines3(tmp_path: Path) -> None:
    """The real logger, which writes the header anew when a name comes later."""
    logger = pytest.importorskip("stable_baselines3.common.logger")
    log = logger.configure(str(tmp_path / "sac"), ["csv", "json", "tensorboard"])
    for step in range(1, 5):
        log.record("rollout/ep_rew_mean", 10.0 * step)
        log.record("time/time_elapsed", step)
        log.record("time/total_timesteps", 100 * step)
        if step > 1:
            log.record("train/critic_loss", math.nan if step == 4 else 0.5)
            log.record("train/ent_coef", 0.1)
            log.record("train/entropy_loss", -1.25 / step)
        log.dump(100 * step)
    log.close()
    for got in read_all(tmp_path / "sac"):
        assert got.points("reward") == [(100 * n, 10.0 * n) for n in range(1, 5)]
        losses = got.points("loss", "critic")
        assert [step for step, _ in losses] == [200, 300, 400] and math.isnan(losses[2][1])
        assert "train:.custom[train/ent_coef]" in got.names
        entropies = got.points("entropy")
        assert [value for _, value in entropies] == pytest.approx([1.25 / n for n in (2, 3, 4)])
        assert got.source.mapper.notes["train/entropy_loss"] == "times -1"
        assert got.source.rows.clock
    assert [got.source.format for got in read_all(tmp_path / "sac")] == [
        *("TensorBoard", "CSV", "JSON lines")
    ]


def test_parts_of_a_loss_become_one_in_rows_that_have_all_of_them(tmp_path: Path) -> None:
    text = "epoch,train/box_loss,train/cls_loss,val/box_loss,val/cls_loss\n1,1.5,0.25,2,1\n"
    got = read(table(tmp_path / "results.csv", text + "2,1.25,nan,2,\n3,,0.5,1,1\n"))
    (first, second) = got.points("loss")
    assert first == (1, 1.75) and second[0] == 2 and math.isnan(second[1])
    assert got.points("loss", stage="val") == [(1, 3.0), (3, 2.0)]
    assert "train:.custom[train/box_loss]" in got.names, "the parts are kept"


def test_lightning(tmp_path: Path) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    log = loggers.CSVLogger(tmp_path, "name", "version_0")
    for step in range(4):
        log.log_metrics({"train_loss_step": 1.0 / (step + 1), "lr-Adam": 0.1}, step)
        log.log_metrics({"val_loss": 2.0, "train_loss_epoch": 0.7}, step)
    log.save()
    got = read(tmp_path / "name" / "version_0")
    assert got.points("loss") == [(n, 1.0 / (n + 1)) for n in range(4)]
    assert got.points("loss", stage="val") == [(n, 2.0) for n in range(4)]
    assert got.points("lr")[0] == (0, 0.1)
    assert "train_loss_step already" in got.source.mapper.notes["train_loss_epoch"]


def test_a_panel_of_weights_and_biases_holds_several_runs(tmp_path: Path) -> None:
    text = (
        '"Step","calm - train/loss","calm - train/loss__MIN","calm - train/loss__MAX",'
        '"wild - 2 - train/loss","wild - 2 - train/loss__MIN","wild - 2 - train/loss__MAX"\n'
        '"0","1.5","1.5","1.5","","",""\n'
        '"10","1.25","1.25","1.25","NaN","NaN","NaN"\n'
    )
    calm, wild = read_all(table(tmp_path / "wandb_export.csv", text))
    assert calm.source.name == "calm" and calm.points("loss") == [(0, 1.5), (10, 1.25)]
    assert wild.source.name == "wild - 2" and math.isnan(wild.points("loss")[0][1])


def test_a_history_of_weights_and_biases(tmp_path: Path) -> None:
    text = (
        "_step,_timestamp,_runtime,loss,grad_norm\n"
        "0,1700000000.5,1.0,2.0,\n"
        "0,1700000000.9,1.4,,3.0\n"
        "1,1700000001.5,2.0,1.0,\n"
    )
    got = read(table(tmp_path / "run.csv", text))
    assert len(got.rows) == 2 and got.rows[0].time == 1700000000.5
    assert got.points("grad_norm") == [(0, 3.0)]


def test_one_value_a_row(tmp_path: Path) -> None:
    tag = table(
        tmp_path / "run-sac-tag-train_loss.csv",
        "Wall time,Step,Value\n1700000000.1,0,1.5\n1700000001.1,10,NaN\n",
    )
    got = read(tag)
    assert got.points("loss")[0] == (0, 1.5) and got.rows[0].time == 1700000000.1
    text = "key,value,step,timestamp\nloss,1.5,0,1700000000000\nlr,0.1,0,1700000000000\n"
    got = read(table(tmp_path / "tidy.csv", text + "loss,bad,1,1700000000000\n"))
    assert len(got.rows) == 1 and got.rows[0].time == 1.7e9
    assert got.points("lr") == [(0, 0.1)] and got.source.problems.count == 1


def test_dates_are_times(tmp_path: Path) -> None:
    got = read(table(tmp_path / "a.csv", "date,step,loss\n2024-01-02T03:04:05+00:00,1,2\n"))
    assert got.rows[0].time == 1704164645.0
