"""Mirrors: what goes to TensorBoard or wandb also becomes nanwatch points, and still gets there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorboardX
import torch
import torch.utils.tensorboard
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from integrations.spies import (
    Watch,
    Weights,
    assert_same,
    break_the_run,
    broke_quietly,
    join,
    weights,
)
from nanwatch.integrations import tensorboard as tensorboard_mirror
from nanwatch.integrations import wandb as wandb_mirror

WRITERS = pytest.mark.parametrize("library", [torch.utils.tensorboard, tensorboardX])


@pytest.fixture
def end() -> Iterator[list[Callable[[], None]]]:
    """Functions to call when the test is over."""
    calls: list[Callable[[], None]] = []
    yield calls
    for call in reversed(calls):
        call()


def train(log: Callable[[dict[str, Any], int], None], steps: int = 6) -> Weights:
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        loss = net(torch.randn(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        log({"train/loss": loss.item() + 7, "train/accuracy": 0.5, "val/loss": 2.0}, step)
    return weights(net.state_dict())


def silent(values: dict[str, Any], step: int) -> None:
    """Nobody listens."""


# --- TensorBoard ---------------------------------------------------------------------------------


@WRITERS
def test_every_writer(
    library: Any, tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    seen = join(watched, monkeypatch)
    early = library.SummaryWriter(str(tmp_path / "events"))
    original = library.SummaryWriter.add_scalar
    end.append(tensorboard_mirror.mirror())
    end.append(tensorboard_mirror.mirror())

    def log(values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            early.add_scalar(name, value, step)
        early.add_scalars("both", {"left": step, "right": torch.tensor(math.nan)}, step)

    train(log)
    early.close()
    seen.read()
    steps = [float(n) for n in range(6)]
    assert [step for step, _ in seen.of_stage("val", "loss")] == [1, 2, 3, 4, 5, 6]
    assert {v for _, v in seen.of_stage("val", "loss")} == {2.0}
    assert seen.values("custom", "", "accuracy") == [0.5] * 6
    assert min(seen.values("custom", "", "train/loss")) > 7, "kept apart from the measured loss"
    assert max(v for _, v in seen.of_stage("train", "loss")) < 7
    assert sorted(set(seen.values("custom", "", "global_step"))) == steps
    assert seen.values("custom", "", "both/left") == steps
    assert all(map(math.isnan, seen.values("custom", "", "both/right"))), "NaN is data"
    read = EventAccumulator(str(tmp_path / "events"), size_guidance={"scalars": 0})
    read.Reload()
    assert [event.step for event in read.Scalars("val/loss")] == [0, 1, 2, 3, 4, 5]
    for undo in end:
        undo()
    assert library.SummaryWriter.add_scalar is original
    end.clear()


def test_one_report_for_a_scalar_that_is_always_nan(
    tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    """No episode of a game has ended yet: a mean of nothing, beside scalars that are fine."""
    seen = join(watched, monkeypatch)
    end.append(tensorboard_mirror.mirror())
    with torch.utils.tensorboard.SummaryWriter(str(tmp_path)) as writer:

        def log(values: dict[str, Any], step: int) -> None:
            for name, value in {**values, "train/ep_len": math.nan, "train/acc": 0.5}.items():
                writer.add_scalar(name, value, step)

        train(log, steps=20)
    seen.read()
    assert [report.layers for report in seen.reports] == [["ep_len"]]
    assert len(seen.values("custom", "", "ep_len")) == 20
    counts = seen.of_stage("train", "nonfinite", "", "logged")
    assert [value for _, value in counts] == [1.0] * 20


def test_without_an_optimizer_the_given_step_is_the_axis(
    tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    """A training in another framework that only logs."""
    seen = join(watched, monkeypatch)
    end.append(tensorboard_mirror.mirror())
    with torch.utils.tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for step in (100, 200, 300):
            writer.add_scalar("train/loss", 1.0, step)
            writer.add_scalar("lr", 0.1, step)
    seen.read()
    assert seen.series("loss") == [(100, 1.0), (200, 1.0), (300, 1.0)]
    assert seen.series("lr") == [(100, 0.1), (200, 0.1), (300, 0.1)]
    assert not seen.values("custom", "", "global_step")


# --- wandb ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_wandb_offline(
    when: str, watched: Watch, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    seen = join(watched, monkeypatch)
    if when == "before":
        end.append(wandb_mirror.mirror())
    with wandb.init(project="mirrored", mode="offline") as run:
        if when == "after":
            end.append(wandb_mirror.mirror())

        def log(values: dict[str, Any], step: int) -> None:
            chosen = wandb.log if step % 2 else run.log
            chosen({**values, "nested": {"kl": 0.25}, "table": wandb.Html("<b>x</b>")}, step=step)

        train(log)
        kept = run.summary["val/loss"]
        end[0]()
        run.log({"late": 1.0})
        wandb.log({"late": 2.0})
    assert kept == 2.0, "wandb has it as ever"
    seen.read()
    assert [step for step, _ in seen.of_stage("val", "loss")] == [1, 2, 3, 4, 5, 6]
    assert seen.values("kl") == [0.25] * 6
    assert min(seen.values("custom", "", "train/loss")) > 7
    assert seen.values("custom", "", "global_step") == [float(n) for n in range(6)]
    assert not [key for key in seen.points if key[2] in ("late", "table")]
    assert not seen.run.recorder.dropped


def test_a_wandb_error_is_the_callers(watched: Watch, monkeypatch: Any, end: Any) -> None:
    join(watched, monkeypatch)
    end.append(wandb_mirror.mirror())
    with wandb.init(project="mirrored", mode="offline") as run, pytest.raises(TypeError):
        run.log("not a dictionary")  # type: ignore[arg-type]


# --- both ----------------------------------------------------------------------------------------


def test_the_same_bits_also_when_the_mirror_fails(
    tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    without = train(silent)
    seen = join(watched, monkeypatch)
    end += [tensorboard_mirror.mirror(), wandb_mirror.mirror()]
    with (
        torch.utils.tensorboard.SummaryWriter(str(tmp_path)) as writer,
        wandb.init(project="mirrored", mode="offline") as run,
    ):

        def log(values: dict[str, Any], step: int) -> None:
            run.log(values, step=step)
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        assert_same(without, train(log))
        break_the_run(seen, monkeypatch)
        assert_same(without, train(lambda values, step: log(values, step + 10)))
    assert broke_quietly("wandb") or broke_quietly("tensorboard")


def test_no_run_no_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Any) -> None:
    monkeypatch.setattr("nanwatch.run._current", None)
    end.append(tensorboard_mirror.mirror())
    with torch.utils.tensorboard.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 1)
