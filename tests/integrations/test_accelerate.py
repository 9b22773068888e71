"""accelerate: plain loops with its wrappers are seen right; its trackers reach the run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nanwatch
from integrations.spies import (
    Watch,
    Weights,
    assert_same,
    break_the_run,
    broke_quietly,
    join,
    order,
    weights,
)
from nanwatch.integrations.accelerate import NanwatchTracker

BATCHES = 8


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """accelerate keeps its settings in singletons."""
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


class Truth:
    """What a loop saw itself."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.skipped: list[bool] = []


def train(
    truth: Truth, log_with: Any = None, at: Any = None, poison: int = -1, **options: Any
) -> Weights:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, log_with=log_with, **options)
    if log_with is not None:
        accelerator.init_trackers("tried", config={"gamma": 0.99})
    policy, critic = nn.Linear(4, 2), nn.Linear(4, 1)
    first = torch.optim.Adam(policy.parameters(), 1e-2)
    second = torch.optim.SGD(critic.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(first, 0.9)
    loader = DataLoader(TensorDataset(torch.randn(4 * BATCHES, 4)), batch_size=4)
    policy, critic, first, second, loader, schedule = accelerator.prepare(
        policy, critic, first, second, loader, schedule
    )
    for number, (batch,) in enumerate(loader):
        if at is not None and number == at[0]:
            at[1]()
        with accelerator.accumulate(policy, critic):
            loss = policy(batch).square().mean() * (math.nan if number == poison else 1.0)
            truth.losses.append(float(loss.detach()))
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                truth.norms.append(float(accelerator.clip_grad_norm_(policy.parameters(), 0.1)))
            first.step()
            schedule.step()
            truth.skipped.append(first.step_was_skipped)
            first.zero_grad()
            accelerator.backward(critic(batch).square().mean() + 100.0)
            second.step()
            second.zero_grad()
        accelerator.log(
            {"train/loss": float(loss.detach()), "reward": number, "note": "text"}, number
        )
    accelerator.end_training()
    return weights({**_named(policy, "policy"), **_named(critic, "critic")})


def _named(module: Any, name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": value for key, value in module.state_dict().items()}


# --- hooks alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_plain_loop(precision: str, watched: Watch) -> None:
    seen, truth = watched(), Truth()
    train(truth, mixed_precision=precision)
    seen.read()
    assert {scope for kind, scope, _ in seen.points if kind == "loss"} == {"policy", "critic"}
    assert seen.values("loss", "policy") == pytest.approx(truth.losses, rel=1e-2)
    assert min(seen.values("loss", "critic")) > 99
    assert seen.values("grad_norm", "policy") == pytest.approx(truth.norms, rel=1e-4)
    assert seen.values("clip_threshold", "policy") == [0.1] * BATCHES
    assert not seen.values("clip_threshold", "critic")
    for scope in ("policy", "critic"):
        assert seen.values("update_applied", scope) == [1.0] * BATCHES
    assert seen.values("lr", "policy") == pytest.approx([1e-2 * 0.9**n for n in range(BATCHES)])


def test_accumulation(watched: Watch) -> None:
    seen, truth = watched(), Truth()
    train(truth, gradient_accumulation_steps=2)
    seen.read()
    pairs = zip(truth.losses[::2], truth.losses[1::2], strict=True)
    assert seen.values("loss", "policy") == pytest.approx([(a + b) / 2 for a, b in pairs])
    assert seen.values("grad_norm", "policy") == pytest.approx(truth.norms, rel=1e-4)
    assert seen.values("update_applied", "policy") == [1.0] * (BATCHES // 2)
    assert seen.values("update_applied", "critic") == [1.0] * (BATCHES // 2)


def test_begun_after_prepare(watched: Watch) -> None:
    """The wrappers are no optimizers of their own."""
    truth, spies = Truth(), []
    train(truth, at=(2, lambda: spies.append(watched())))
    seen = spies[0].read()
    assert seen.values("grad_norm", "policy") == pytest.approx(truth.norms[2:], rel=1e-4)
    assert seen.values("update_applied", "critic") == [1.0] * (BATCHES - 2)
    assert {scope for kind, scope, _ in seen.points if kind == "loss"} == {"policy", "critic"}


def test_updates_that_a_scaler_skips(watched: Watch) -> None:
    seen, truth = watched(), Truth()
    options: Any = {"mixed_precision": "fp16"}
    AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    # fp16 needs an accelerator of another kind; the wrapper around a scaler is the same.
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    net, optimizer = accelerator.prepare(net, optimizer)
    for number in range(BATCHES):
        optimizer.zero_grad()
        loss = net(torch.randn(4, 4)).square().mean() * (math.inf if number == 3 else 1.0)
        truth.losses.append(float(loss.detach()))
        accelerator.backward(loss)
        optimizer.step()
        truth.skipped.append(optimizer.step_was_skipped)
    seen.read()
    assert options and truth.skipped == [n == 3 for n in range(BATCHES)]
    assert seen.values("update_applied") == [float(n != 3) for n in range(BATCHES)]
    assert seen.values("skip_reason") == [float(n == 3) for n in range(BATCHES)]
    assert seen.values("loss") == pytest.approx(truth.losses), "unscaled"
    assert seen.values("loss_scale")[0] == 8.0


# --- with the tracker ----------------------------------------------------------------------------


def test_the_tracker_logs_to_the_run(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, truth = join(watched, monkeypatch), Truth()
    train(truth, NanwatchTracker())
    seen.read()
    assert [v for _, v in seen.series("reward")] == [float(n) for n in range(BATCHES)]
    assert [step for step, _ in seen.series("reward")] == list(range(1, BATCHES + 1))
    assert seen.values("custom", "", "train/loss") == pytest.approx(truth.losses)
    assert seen.values("custom", "", "global_step") == [float(n) for n in range(BATCHES)]
    assert not seen.values("custom", "", "note") and not seen.run.recorder.dropped
    assert [m.data for m in seen.marks if m.text == "accelerate"] == [{"gamma": "0.99"}]


def test_the_same_bits(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({}, {"gradient_accumulation_steps": 2, "mixed_precision": "bf16"}):
        without = train(Truth(), **options)
        seen = join(watched, monkeypatch)
        assert_same(without, train(Truth(), NanwatchTracker(), **options))
        seen.run.observer.enabled = False
        seen.run.hooks.remove()


def test_a_stop_ends_the_loop(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = join(watched, monkeypatch)
    with pytest.raises(nanwatch.StopTraining):
        train(Truth(), at=(3, lambda: order(seen, "stop")))
    assert seen.run.observer.clock.step == 4


def test_a_failing_tracker_does_not_break_the_loop(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = train(Truth())
    break_the_run(join(watched, monkeypatch), monkeypatch)
    assert_same(without, train(Truth(), NanwatchTracker()))
    assert broke_quietly("accelerate")


def test_the_tracker_starts_a_run() -> None:
    tracker = NanwatchTracker(project="loops", mode="offline")
    run = nanwatch.run.current()
    assert tracker.tracker is run and isinstance(run, nanwatch.Run)
    run.finish()
    with pytest.raises(ValueError, match="mode expects"):
        NanwatchTracker(mode="sideways")
