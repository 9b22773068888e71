"""transformers: `NanwatchCallback` for `Trainer(callbacks=[…])`.

Loss, gradients, clipping and learning rate are seen without it, unfiltered; it adds the training
arguments, the metrics the Trainer logs, evaluations and epochs. A stop from the page ends the
Trainer by its own flag (`probes.frameworks`), with or without this callback.
"""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback

from nanwatch.integrations.base import facts, forward, join, mark, never_raises

logger = logging.getLogger("nanwatch")

ARGUMENTS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "warmup_ratio",
    "optim",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "fp16",
    "bf16",
    "tf32",
    "gradient_accumulation_steps",
    "per_device_train_batch_size",
    "gradient_checkpointing",
    "label_smoothing_factor",
    "num_train_epochs",
    "max_steps",
    "seed",
    "torch_compile",
    "logging_steps",
    "logging_nan_inf_filter",
)
"""Training arguments that rules and people ask for."""

HIDES_NAN = (
    "nanwatch: TrainingArguments(logging_nan_inf_filter=True), the default, replaces NaN and "
    "infinite losses in the Trainer's own logs by an average of good ones. nanwatch shows the "
    "loss as it is; set logging_nan_inf_filter=False to see it in the logs too."
)


class NanwatchCallback(TrainerCallback):
    """`Trainer(…, callbacks=[NanwatchCallback(project="my-project")])`.

    Joins the run of this process, or starts one by `nanwatch.init(**options)`; only that may raise.
    """

    def __init__(self, **options: Any) -> None:
        join(options)

    @never_raises
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """What the Trainer was told; a warning where its logs will hide NaN."""
        told = {name: getattr(args, name, None) for name in ARGUMENTS}
        scheduler = told["lr_scheduler_type"]
        told["lr_scheduler_type"] = getattr(scheduler, "value", scheduler)
        told["optim"] = getattr(told["optim"], "value", told["optim"])
        facts("transformers", told)
        if told["logging_nan_inf_filter"]:
            logger.warning(HIDES_NAN)
            mark("note", "logging_nan_inf_filter hides NaN in the Trainer's logs")

    @never_raises
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An epoch begins."""
        number = int(state.epoch or 0)
        mark("note", f"epoch {number}", epoch=number)

    @never_raises
    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Everything the Trainer logs; its evaluations say `eval_` themselves."""
        logged = dict(logs or {})
        if "train_runtime" in logged:  # the summary: a mean over the whole training
            logged.pop("train_loss", None)
        forward(logged, step=state.global_step)

    @never_raises
    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation is over; transformers does not say when one begins."""
        mark("eval", "end", stage="val")
