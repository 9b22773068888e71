"""Lightning, both packages, real trainings: seen with hooks alone, more with the callback."""

from __future__ import annotations

import copy
import gc
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
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
    results,
    weights,
)
from nanwatch.integrations.lightning import NanwatchCallback

BATCHES, EPOCHS = 8, 2
PACKAGES = pytest.mark.parametrize("pl", [lightning.pytorch, pytorch_lightning])

warnings.filterwarnings("ignore", module="(pytorch_)?lightning")


def supervised(pl: Any, stop_at: Any = None) -> Any:
    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 8)
            self.head = nn.Linear(8, 1)
            self.seen: list[float] = []

        def loss(self, batch: Any) -> Any:
            return self.head(torch.tanh(self.encoder(batch[0]))).square().mean()

        def training_step(self, batch: Any, index: int) -> Any:
            if stop_at is not None and (self.current_epoch, index) == stop_at[0]:
                stop_at[1]()
            loss = self.loss(batch)
            self.seen.append(float(loss.detach()))
            self.log("train/loss", loss, on_step=True, on_epoch=True)
            self.log("accuracy", loss.detach() * 0 + 0.5)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", self.loss(batch))

        def test_step(self, batch: Any, index: int) -> None:
            self.log("test_loss", self.loss(batch))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), 1e-2)
            schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return {"optimizer": optimizer, "lr_scheduler": schedule}

    return Net()


def adversarial(pl: Any) -> Any:
    class Gan(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.mapper, self.painter = nn.Linear(2, 4), nn.Linear(4, 4)
            self.judge = nn.Linear(4, 1)

        def training_step(self, batch: Any, index: int) -> None:
            first, second = self.optimizers()
            fake = self.painter(self.mapper(torch.randn(4, 2)))
            self.toggle_optimizer(first)
            first.zero_grad()
            self.manual_backward(-self.judge(fake).mean())
            first.step()
            self.untoggle_optimizer(first)
            self.toggle_optimizer(second)
            second.zero_grad()
            self.manual_backward((self.judge(fake.detach()) - self.judge(batch[0])).mean() + 3.0)
            self.clip_gradients(second, 0.5, "norm")
            second.step()
            self.untoggle_optimizer(second)

        def configure_optimizers(self) -> Any:
            painter = [*self.mapper.parameters(), *self.painter.parameters()]
            return (
                torch.optim.Adam(painter, 1e-3),
                torch.optim.SGD(self.judge.parameters(), 1e-3),
            )

    return Gan()


def data() -> DataLoader[Any]:
    torch.manual_seed(1)
    return DataLoader(TensorDataset(torch.randn(4 * BATCHES, 4)), batch_size=4)


def trainer(pl: Any, *callbacks: Any, **options: Any) -> Any:
    settings = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 2,
        "callbacks": list(callbacks),
    }
    return pl.Trainer(**{**settings, **options})


def fit(pl: Any, make: Any, *callbacks: Any, **options: Any) -> tuple[Any, Weights]:
    loader = data()
    torch.manual_seed(0)
    model = make(pl)
    validation = loader if make is supervised else None
    trainer(pl, *callbacks, **options).fit(model, loader, validation)
    return model, weights(model.state_dict())


# --- hooks alone ---------------------------------------------------------------------------------


@PACKAGES
def test_zero_code(pl: Any, watched: Watch) -> None:
    seen = watched()
    model, _ = fit(pl, supervised)
    seen.read()
    n = BATCHES * EPOCHS
    assert seen.values("loss") == pytest.approx(model.seen)
    assert seen.values("update_applied") == [1.0] * n
    assert seen.values("lr") == pytest.approx([1e-2] * BATCHES + [5e-3] * BATCHES)
    assert seen.series("grad_norm")[0][0] == 1
    assert seen.values("grad_norm_layer", "", "encoder")


@PACKAGES
def test_clip_accumulation_and_bfloat16(pl: Any, watched: Watch) -> None:
    seen = watched()
    norms: list[float] = []

    class Look(pl.Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            gradients = [p.grad for p in module.parameters()]
            norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    model, _ = fit(
        pl,
        supervised,
        Look(),
        gradient_clip_val=1e-3,
        accumulate_grad_batches=2,
        precision="bf16-mixed",
    )
    seen.read()
    n = BATCHES * EPOCHS // 2
    assert seen.values("update_applied") == [1.0] * n
    pairs = zip(model.seen[::2], model.seen[1::2], strict=True)
    assert seen.values("loss") == pytest.approx([(a + b) / 2 for a, b in pairs], rel=1e-2)
    assert seen.values("clip_threshold") == [1e-3] * n
    assert seen.values("grad_norm") == pytest.approx(norms, rel=1e-4), "the norm before clipping"


def test_an_epoch_whose_last_step_has_fewer_batches(watched: Watch) -> None:
    seen = watched()
    model, _ = fit(lightning.pytorch, supervised, accumulate_grad_batches=3, max_epochs=1)
    losses = seen.read().values("loss")
    assert len(losses) == 3
    assert losses[:2] == pytest.approx([sum(model.seen[i : i + 3]) / 3 for i in (0, 3)])


@PACKAGES
def test_two_optimizers_by_hand(pl: Any, watched: Watch) -> None:
    seen = watched()
    fit(pl, adversarial)
    seen.read()
    scopes = {scope for kind, scope, _ in seen.points if kind == "update_applied"}
    assert len(scopes) == 2 and "judge" in scopes
    n = BATCHES * EPOCHS
    for scope in scopes:
        assert seen.values("update_applied", scope) == [1.0] * n
    assert seen.values("clip_threshold", "judge") == [0.5] * n
    assert min(seen.values("loss", "judge")) > 1.0, "the judge's own loss, not the painter's"


@PACKAGES
def test_skipped_updates_by_hand(pl: Any, watched: Watch) -> None:
    """`self.optimizers()` gives wrappers that derive from the optimizer's own class."""

    class Skips(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = nn.Linear(4, 1)

        def training_step(self, batch: Any, index: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(self.net(batch[0]).square().mean())
            if index % 2 == 0:
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-2)

    seen = watched()
    trainer(pl, max_epochs=1).fit(Skips(), data())
    # The last skip is open until gradients are cleared again.
    assert seen.read().values("update_applied") == ([1.0, 0.0] * (BATCHES // 2))[:-1]
    assert {scope for kind, scope, _ in seen.points if kind == "update_applied"} == {""}


@PACKAGES
@pytest.mark.parametrize("make", [supervised, adversarial])
def test_begun_in_the_middle_of_a_training(pl: Any, make: Any, watched: Watch) -> None:
    """Wrappers exist by then, and are not taken for further optimizers."""
    gc.collect()  # those of the test before would be named beside them
    spies: list[Any] = []

    class Begin(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            if index == 2 and not spies:
                spies.append(watched())

    fit(pl, make, Begin(), max_epochs=1)
    seen = spies[0].read()
    applied = {key: points for key, points in seen.points.items() if key[0] == "update_applied"}
    assert len(applied) == (1 if make is supervised else 2)
    assert all(len(points) == BATCHES - 2 for points in applied.values())
    if make is adversarial:
        assert seen.values("clip_threshold", "judge") == [0.5] * (BATCHES - 2)


# --- with the callback ---------------------------------------------------------------------------


@PACKAGES
def test_metrics_by_stage_evaluations_and_epochs(
    pl: Any, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = join(watched, monkeypatch)
    loader = data()
    torch.manual_seed(0)
    model = supervised(pl)
    runner = trainer(pl, NanwatchCallback())
    runner.fit(model, loader, loader)
    tested = runner.test(model, loader)[0]["test_loss"]
    seen.read()
    n = BATCHES * EPOCHS
    measured = seen.of_stage("train", "loss")
    assert [value for _, value in measured] == pytest.approx(model.seen), "not mixed with others"
    assert [step for step, _ in seen.of_stage("val", "loss")] == [BATCHES, n]
    assert seen.of_stage("test", "loss") == [(n, pytest.approx(tested))]
    assert {value for _, value in seen.of_stage("train", "custom", "", "accuracy")} == {0.5}
    assert not seen.of_stage("val", "custom", "", "accuracy")
    assert len(seen.values("custom", "", "train/loss")) == n // 2
    texts = [(mark.what, mark.text, mark.step) for mark in seen.marks]
    assert texts.count(("eval", "start", BATCHES)) == 1
    assert texts.count(("eval", "end", BATCHES)) == 1
    assert [t for t in texts if t[1].startswith("epoch")] == [
        ("note", f"epoch {e}", e * BATCHES) for e in range(EPOCHS)
    ]
    (told,) = [m.data for m in seen.marks if m.what == "config" and "precision" in m.data]
    assert told["accumulate_grad_batches"] == "1" and "gradient_clip_val" not in told


def test_names_of_modules(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = join(watched, monkeypatch)
    fit(lightning.pytorch, adversarial, NanwatchCallback())
    scopes = {scope for kind, scope, _ in seen.read().points if kind == "update_applied"}
    assert scopes == {"mapper-painter", "judge"}


@PACKAGES
@pytest.mark.parametrize("make", [supervised, adversarial])
def test_the_same_bits(pl: Any, make: Any, watched: Watch, monkeypatch: Any) -> None:
    options = {"precision": "bf16-mixed", "gradient_clip_val": 0.01} if make is supervised else {}
    _, without = fit(pl, make, **options)
    join(watched, monkeypatch)
    _, watched_weights = fit(pl, make, NanwatchCallback(), **options)
    assert_same(without, watched_weights)


# --- stop and errors -----------------------------------------------------------------------------


@PACKAGES
@pytest.mark.parametrize("callback", [False, True])
def test_a_stop_ends_the_trainer_cleanly(
    pl: Any, callback: bool, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = join(watched, monkeypatch)
    ended: list[str] = []

    class Ends(pl.Callback):
        def on_train_end(self, trainer: Any, module: Any) -> None:
            ended.append("train end")

    callbacks = [Ends(), NanwatchCallback()] if callback else [Ends()]
    loader = data()
    model = supervised(pl, stop_at=((0, 3), lambda: order(seen, "stop")))
    runner = trainer(pl, *callbacks, max_epochs=50, min_epochs=20, min_steps=100)
    runner.fit(model, loader, loader)
    assert ended == ["train end"] and runner.global_step == 4
    assert seen.run.stopped_by == "kim"
    (result,) = results(seen)
    assert result.state == "applied" and result.step == 4 and "stopped" in result.message
    assert seen.run.observer.enabled, "the evaluation at the end is still watched"


def test_what_the_script_starts_after_a_stop_ends_at_once(watched: Watch) -> None:
    seen = watched()
    pl = lightning.pytorch
    model = supervised(pl, stop_at=((0, 3), lambda: order(seen, "stop", checkpoint=False)))
    trainer(pl).fit(model, data())
    caught: list[BaseException] = []

    class Hears(pl.Callback):
        def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
            caught.append(exception)

    with pytest.raises(SystemExit):  # what Lightning makes of a KeyboardInterrupt
        trainer(pl, Hears()).fit(supervised(pl), data())
    assert isinstance(caught[0], nanwatch.StopTraining)


def test_an_exception_is_noted_and_passes(watched: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = join(watched, monkeypatch)

    def fail() -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer(lightning.pytorch, NanwatchCallback()).fit(
            supervised(lightning.pytorch, stop_at=((0, 2), fail)), data()
        )
    assert seen.run._failure == ("ZeroDivisionError: mine", 1)


def test_a_failing_callback_does_not_break_the_trainer(
    watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, without = fit(lightning.pytorch, supervised)
    seen = join(watched, monkeypatch)
    break_the_run(seen, monkeypatch)
    _, after = fit(lightning.pytorch, supervised, NanwatchCallback())
    assert_same(without, after)
    assert broke_quietly("lightning")


def test_the_callback_starts_a_run_and_travels(tmp_path: Path) -> None:
    callback = NanwatchCallback(project="made by a callback", mode="offline")
    run = nanwatch.run.current()
    try:
        assert isinstance(run, nanwatch.Run) and run.options.project == "made_by_a_callback"
        again = copy.copy(callback)
        assert type(again) is type(callback) and nanwatch.run.current() is run
        assert isinstance(callback, lightning.pytorch.Callback)
        assert isinstance(callback, pytorch_lightning.Callback)
    finally:
        run.finish()
    with pytest.raises(ValueError, match="mode expects"):
        NanwatchCallback(mode="sideways")
