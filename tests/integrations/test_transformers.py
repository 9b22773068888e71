"""transformers: a real Trainer on tiny random models, by hooks alone and with the callback."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

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
from nanwatch.integrations.transformers import NanwatchCallback

ROWS, EPOCHS = 24, 2


def language_model() -> Any:
    config = GPT2Config(
        vocab_size=32,
        n_positions=16,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def classifier() -> Any:
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    return BertForSequenceClassification(config)


def rows(kind: Any) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(1)
    tokens = [torch.randint(1, 32, (8,)) for _ in range(ROWS)]
    if kind is classifier:
        return [{"input_ids": x, "labels": x.sum() % 2} for x in tokens]
    return [{"input_ids": x, "labels": x} for x in tokens]


class Truth(TrainerCallback):
    """What the Trainer itself says."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append({"step": state.global_step, **logs})

    def of(self, name: str) -> list[float]:
        return [entry[name] for entry in self.logs if name in entry]


def train(
    folder: Path, *callbacks: Any, kind: Any = language_model, **options: Any
) -> tuple[Any, Weights]:
    settings: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "eval_strategy": "epoch",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }
    torch.manual_seed(0)
    model = kind()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**{**settings, **options}),
        train_dataset=rows(kind),
        eval_dataset=rows(kind)[:8],
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer, weights(model.state_dict())


# --- hooks alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [language_model, classifier])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
        {"bf16": True, "max_grad_norm": 0.1},
    ],
)
def test_zero_code(kind: Any, options: Any, tmp_path: Path, watched: Watch) -> None:
    seen = watched()
    truth = Truth()
    trainer, _ = train(tmp_path, truth, kind=kind, **options)
    n = trainer.state.global_step
    seen.read()
    assert seen.values("update_applied") == [1.0] * n
    assert seen.values("loss") == pytest.approx(truth.of("loss"), rel=1e-4)
    assert seen.values("grad_norm") == pytest.approx(truth.of("grad_norm"), rel=1e-4)
    assert seen.values("clip_threshold") == [options.get("max_grad_norm", 1.0)] * n
    assert seen.values("lr") == pytest.approx(truth.of("learning_rate"))
    layers = {layer for found, _, layer in seen.points if found == "grad_norm_layer"}
    expected = "bert.encoder.layer.0" if kind is classifier else "transformer.h.0.attn.c_attn"
    assert any(layer.startswith(expected) for layer in layers)
    assert not [key for key in seen.points if key[0].startswith("q_")], "attention is no critic"


def test_no_clipping(tmp_path: Path, watched: Watch) -> None:
    seen = watched()
    truth = Truth()
    train(tmp_path, truth, max_grad_norm=0.0)
    seen.read()
    norms = truth.of("grad_norm")
    assert not seen.values("clip_threshold")
    assert seen.series("grad_norm")
    for step, norm in seen.series("grad_norm"):
        assert norm == pytest.approx(norms[step - 1], rel=1e-4)


# --- with the callback ---------------------------------------------------------------------------


def test_metrics_arguments_and_evaluations(
    tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    seen = join(watched, monkeypatch)
    truth = Truth()
    with caplog.at_level(logging.WARNING, "nanwatch"):
        train(tmp_path, truth, NanwatchCallback(), bf16=True, logging_steps=2)
    seen.read()
    losses = [v for _, v in seen.of_stage("train", "loss")]
    assert len(losses) == 12, "the Trainer's mean of two steps is not mixed with the loss"
    logged = [v for _, v in seen.of_stage("train", "custom", "", "train/loss")]
    assert logged == pytest.approx(truth.of("loss")) and len(logged) == 6
    assert [v for _, v in seen.of_stage("val", "loss")] == pytest.approx(truth.of("eval_loss"))
    assert [(m.text, m.step) for m in seen.marks if m.what == "eval"] == [("end", 6), ("end", 12)]
    (told,) = [m.data for m in seen.marks if "max_grad_norm" in m.data]
    assert told["bf16"] == "True" and told["lr_scheduler_type"] == "linear"
    assert told["optim"].startswith("adamw") and told["logging_nan_inf_filter"] == "True"
    assert [m.text for m in seen.marks if m.text.startswith("epoch")] == ["epoch 0", "epoch 1"]
    assert "logging_nan_inf_filter" in caplog.text
    assert any("hides NaN" in m.text for m in seen.marks)


def test_a_nan_that_the_filter_hides_is_seen(
    tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    seen = join(watched, monkeypatch)
    truth = Truth()

    class Poison(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                kwargs["model"].transformer.wte.weight.data[0] = math.nan
                kwargs["model"].transformer.wpe.weight.data[0] = math.nan

    train(tmp_path, truth, Poison(), NanwatchCallback(), eval_strategy="no")
    seen.read()
    assert all(math.isfinite(loss) for loss in truth.of("loss")), "the Trainer's log looks fine"
    assert [math.isnan(v) for v in seen.values("loss")] == [False] * 6 + [True] * 6
    assert seen.reports[0].step == 7

    caplog.clear()
    train(tmp_path, NanwatchCallback(), logging_nan_inf_filter=False)
    assert "hides" not in caplog.text, "nothing to warn of"


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "bf16": True}])
def test_the_same_bits(
    options: Any, tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, without = train(tmp_path, **options)
    join(watched, monkeypatch)
    _, after = train(tmp_path, NanwatchCallback(), **options)
    assert_same(without, after)


@pytest.mark.parametrize("callback", [False, True])
def test_a_stop_ends_the_trainer_cleanly(
    callback: bool, tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = join(watched, monkeypatch)
    ended: list[int] = []

    class Orders(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                order(seen, "stop")

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            ended.append(state.global_step)

    callbacks = [Orders(), NanwatchCallback()] if callback else [Orders()]
    trainer, _ = train(tmp_path, *callbacks, num_train_epochs=50)
    assert ended == [5] and trainer.state.global_step == 5
    (result,) = results(seen)
    assert result.state == "applied" and result.step == 5 and seen.run.stopped_by == "kim"


def test_a_failing_callback_does_not_break_the_trainer(
    tmp_path: Path, watched: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, without = train(tmp_path)
    break_the_run(join(watched, monkeypatch), monkeypatch)
    _, after = train(tmp_path, NanwatchCallback())
    assert_same(without, after)
    assert broke_quietly("transformers")


def test_the_callback_starts_a_run() -> None:
    NanwatchCallback(project="hf", mode="offline")
    run = nanwatch.run.current()
    assert isinstance(run, nanwatch.Run) and run.options.project == "hf"
    run.finish()
    with pytest.raises(ValueError, match="mode expects"):
        NanwatchCallback(mode="sideways")
