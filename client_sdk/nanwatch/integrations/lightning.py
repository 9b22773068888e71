"""Lightning: `NanwatchCallback` for `lightning.pytorch` and for `pytorch_lightning`.

Their callback classes are strangers to each other, so ours is made over whichever is imported.
Loss, gradients, clipping and learning rates are seen without it; it adds the names of the
modules, the Trainer's settings, logged metrics by stage, evaluations, epochs and exceptions.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from nanwatch.integrations.base import active, facts, forward, join, mark, never_raises

PACKAGES = ("lightning.pytorch", "pytorch_lightning")

_classes: dict[tuple[type, ...], type] = {}


def NanwatchCallback(**options: Any) -> Any:
    """A Lightning callback: `Trainer(callbacks=[NanwatchCallback(project="my-project")])`.

    Joins the run of this process, or starts one by `nanwatch.init(**options)`; only that may raise.
    """
    bases = tuple(sys.modules[name].Callback for name in PACKAGES if name in sys.modules)
    if not bases:
        bases = (_import_any().Callback,)
    if bases not in _classes:
        _classes[bases] = type("NanwatchCallback", (_Callback, *bases), {"__module__": __name__})
    return _classes[bases](options)


def _import_any() -> Any:
    for name in PACKAGES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(
        "nanwatch.integrations.lightning expected lightning or pytorch_lightning to be installed; "
        "neither is. Try: pip install lightning"
    )


def _again(options: dict[str, Any]) -> Any:
    return NanwatchCallback(**options)


class _Callback:
    """The hooks; a mixin, so that it can stand over either package's `Callback`."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self._options = options
        self._last: dict[str, Any] = {}
        """What was forwarded last: Lightning keeps old values among the new. Held, so that their
        memory is not used again."""
        join(options)

    def __reduce__(self) -> Any:
        return _again, (self._options,)

    # --- training --------------------------------------------------------------------------------

    @never_raises
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Optimizers exist: name the modules they own, and tell what the Trainer was told."""
        run = active()
        if run is None:
            return
        if owned := owned_by_one(pl_module, trainer.optimizers):
            run.watch(**owned)
        facts("lightning", {**dict(getattr(pl_module, "hparams", {})), **_settings(trainer)})

    @never_raises
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """An epoch begins."""
        mark("note", f"epoch {trainer.current_epoch}", epoch=trainer.current_epoch)

    @never_raises
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Metrics of a step, as often as Lightning's loggers get them."""
        if (batch_idx + 1) % max(trainer.log_every_n_steps, 1) == 0:
            self._forward(trainer, "train")

    @never_raises
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Metrics of the epoch."""
        self._forward(trainer, "train")

    # --- evaluation ------------------------------------------------------------------------------

    @never_raises
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """A validation begins; the sanity check before training is none."""
        self._evaluates(trainer, "start", "val")

    @never_raises
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """It is over."""
        self._evaluates(trainer, "end", "val")

    @never_raises
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """A test begins."""
        self._evaluates(trainer, "start", "test")

    @never_raises
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """It is over."""
        self._evaluates(trainer, "end", "test")

    def _evaluates(self, trainer: Any, what: str, stage: str) -> None:
        if trainer.sanity_checking:
            return
        if what == "end":
            self._forward(trainer, stage)
        mark("eval", what, stage=stage)

    # --- the rest --------------------------------------------------------------------------------

    @never_raises
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Lightning makes an exit code of a Ctrl-C: say what it was."""
        if (run := active()) is not None:
            run.failed(exception)

    def _forward(self, trainer: Any, stage: str) -> None:
        metrics = trainer.callback_metrics
        fresh = {k: v for k, v in metrics.items() if not _same(self._last.get(k), v)}
        self._last.update(fresh)
        # A metric kept per step and per epoch comes by two names, of which we take one.
        values = {
            k: v
            for k, v in fresh.items()
            if f"{k}_epoch" not in fresh and not (k.endswith("_step") and k[:-5] in fresh)
        }
        forward(values, stage=stage, step=trainer.global_step)


def _same(old: Any, new: Any) -> bool:
    """True if both are the very same value in memory, not only equal."""
    return old is new or (
        hasattr(old, "data_ptr") and hasattr(new, "data_ptr") and old.data_ptr() == new.data_ptr()
    )


def owned_by_one(module: Any, optimizers: list[Any]) -> dict[str, Any]:
    """Children of `module` by name that belong to one optimizer each, if there are several."""
    if len(optimizers) < 2:
        return {}
    owner = {
        id(parameter): number
        for number, optimizer in enumerate(optimizers)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    owned: dict[str, Any] = {}
    for name, child in module.named_children():
        owners = {owner.get(id(parameter)) for parameter in child.parameters()}
        if len(owners) == 1 and None not in owners:
            owned[name] = child
    return owned


def _settings(trainer: Any) -> dict[str, Any]:
    """What the rules want to know of a Trainer."""
    return {
        "precision": trainer.precision,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": trainer.gradient_clip_algorithm,
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "strategy": type(trainer.strategy).__name__,
        "world_size": trainer.world_size,
    }
