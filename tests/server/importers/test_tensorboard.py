"""Event files that TensorBoard's own writers made."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy
import pytest

from nanwatch_server.importers.discover import find
from nanwatch_server.importers.rows import Row
from nanwatch_server.importers.source import Options
from tests.server.importers.reading import read, read_all

tensorboard = pytest.importorskip("torch.utils.tensorboard")


def test_scalars_texts_and_hparams(tmp_path: Path) -> None:
    with tensorboard.SummaryWriter(str(tmp_path / "run")) as writer:
        writer.add_text("hyperparameters", "|param|value|\n|-|-|\n|gamma|0.98|\n|tau|0.005|")
        for step in range(20):
            writer.add_scalar("losses/qf1_loss", math.nan if step == 9 else 0.5, step)
            writer.add_scalar("charts/episodic_return", step, step)
            if step % 5 == 0:
                writer.add_scalar("gradients/fc.weight", math.inf if step else 1.0, step)
                writer.add_histogram("weights", numpy.ones(3), step)
        writer.add_hparams({"lr": 0.25}, {"best": 1.0})
    got = read_all(tmp_path / "run")[0]
    assert [step for step, _ in got.points("reward")] == list(range(20))
    losses = got.points("loss", "qf1")
    assert math.isnan(losses[9][1]) and losses[8] == (8, 0.5)
    layers = got.points("grad_norm_layer", layer="fc.weight")
    assert layers == [(0, 1.0), *((n, math.inf) for n in (5, 10, 15))]
    assert len(got.rows) == 20, "tags of one step are one row"
    assert got.source.config["gamma"] == "0.98" and got.source.config["lr"] == "0.25"
    assert got.source.rows.clock and abs(got.rows[0].time - time.time()) < 600


def test_a_resumed_training_continues_in_a_second_file(tmp_path: Path) -> None:
    for first, stop in ((0, 10), (6, 12)):
        with tensorboard.SummaryWriter(str(tmp_path), filename_suffix=f".{first:03}") as writer:
            for step in range(first, stop):
                writer.add_scalar("loss", step, step)
                writer.add_scalar("grad_norm", 1, step)
        time.sleep(1.1)  # the name of a file holds its second
    got = read(tmp_path)
    assert [row.step for row in got.rows] == [*range(10), *range(6, 12)]
    assert [(mark.what, mark.step) for mark in got.marks] == [("resume", 6)]


def test_tags_written_one_after_the_other_are_woven(tmp_path: Path) -> None:
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for tag in ("loss", "grad_norm", "lr"):
            for step in range(50):
                writer.add_scalar(tag, step, step)
    got = read(tmp_path)
    assert len(got.rows) == 50 and all(len(row.ids) == 3 for row in got.rows)
    assert not got.marks


def test_tensorflow_2_writes_tensors(tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from tensorboard.util.tensor_util import make_tensor_proto

    path = tmp_path / "events.out.tfevents.1.host"
    with open(path, "wb") as file:
        for step in range(3):
            value = Summary.Value(tag="epoch_loss", tensor=make_tensor_proto(1.5 * step))
            event = Event(wall_time=100.0 + step, step=step, summary=Summary(value=[value]))
            data = event.SerializeToString()
            head = len(data).to_bytes(8, "little")
            crc = [masked_crc32c(part).to_bytes(4, "little") for part in (head, data)]
            file.write(head + crc[0] + data + crc[1])
        file.write(b"\x10\0\0\0\0\0\0\0cut")
    got = read(path, "epoch_loss=loss")
    assert got.points("loss") == [(0, 0.0), (1, 1.5), (2, 3.0)]
    assert "11 bytes at its end are no record" in got.source.problems.shown[0]


def test_a_live_folder_is_followed(tmp_path: Path) -> None:
    writer = tensorboard.SummaryWriter(str(tmp_path))
    writer.add_scalar("loss", 0.0, 0)
    writer.flush()
    (source,) = find(tmp_path, Options(follow=True)).sources

    def steps() -> list[int]:
        items = [item for part in source.read() for item in part]
        return [item.step for item in items if isinstance(item, Row)]

    assert steps() == []
    for step in range(1, 4):
        writer.add_scalar("loss", 0.0, step)
        writer.add_scalar("lr", 0.0, step)
    writer.flush()
    assert steps() == [0, 1], "the newest step may still grow, and the row before it with it"
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    writer.add_scalar("loss", 0.0, 4)
    writer.close()
    more = path.read_bytes()
    with open(path, "r+b") as file:  # caught in the middle of a record
        file.truncate(len(whole) + 9)
    assert steps() == []
    with open(path, "ab") as file:
        file.write(more[len(whole) + 9 :])
        file.flush()
        os.fsync(file.fileno())
    assert steps() == [2]
    assert [item.step for item in source.release() if isinstance(item, Row)] == [3, 4]
