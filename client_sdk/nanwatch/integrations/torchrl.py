"""torchrl: `NanwatchHook` for its `Trainer`.

Losses, gradients, clipping and learning rates are seen without it; it adds the rewards of the
collected batches, the losses of the loss module by name, and the frames. A stop from the page
ends the Trainer by its own `request_stop` (`probes.frameworks`), with or without this hook.
"""

from __future__ import annotations

from typing import Any

from torchrl.trainers import TrainerHookBase

from nanwatch.integrations.base import active, facts, forward, join, never_raises

SETTINGS = ("total_frames", "frame_skip", "optim_steps_per_batch", "num_epochs", "clip_norm")
REWARD = ("next", "reward")


class NanwatchHook(TrainerHookBase):
    """`NanwatchHook(project="my-project").register(trainer)`.

    Joins the run of this process, or starts one by `nanwatch.init(**options)`; only that may raise.
    """

    def __init__(self, **options: Any) -> None:
        join(options)
        self._trainer: Any = None

    @never_raises
    def register(self, trainer: Any, name: str = "nanwatch") -> None:
        """Put the hook into a Trainer."""
        self._trainer = trainer
        trainer.register_op("pre_steps_log", self.collected)
        trainer.register_op("post_optim_complete_log", self.optimized)
        trainer.register_module(name, self)
        told = {key: getattr(trainer, key, None) for key in SETTINGS}
        facts("torchrl", {"loss_module": type(trainer.loss_module).__name__, **told})

    @never_raises
    def collected(self, batch: Any) -> None:
        """Rewards of a batch: their mean and largest absolute value."""
        run = active()
        if run is None:
            return
        frames = float(self._trainer.collected_frames)
        reward = batch.get(REWARD, None) if batch is not None else None
        run.log({"frames": frames} if reward is None else {"frames": frames, "reward": reward})

    @never_raises
    def optimized(self, optim_steps: int, average_losses: Any) -> None:
        """Losses of the loss module, averaged by torchrl over the updates of one batch."""
        if average_losses is not None:
            forward({str(name): value for name, value in average_losses.items()})

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing was kept."""
