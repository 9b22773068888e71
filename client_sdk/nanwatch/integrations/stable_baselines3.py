"""Stable-Baselines3: `NanwatchCallback` for `model.learn(…, callback=NanwatchCallback(…))`.

Losses, gradients, clipping and learning rates of every network are seen without it; it adds names
and everything that SB3's own logger records: rewards, entropy, KL, explained variance, …. A stop
from the page ends `learn` as a callback that returns False does (`probes.frameworks`).
"""

from __future__ import annotations

import math
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from nanwatch.integrations.base import active, facts, forward, join, never_raises

SETTINGS = (
    "gamma",
    "tau",
    "batch_size",
    "buffer_size",
    "learning_starts",
    "learning_rate",
    "ent_coef",
    "target_entropy",
    "target_update_interval",
    "policy_delay",
    "n_steps",
    "n_epochs",
    "clip_range",
    "max_grad_norm",
    "gae_lambda",
    "vf_coef",
    "seed",
)
"""Attributes of an algorithm that rules and people ask for."""


class NanwatchCallback(BaseCallback):
    """`model.learn(total_timesteps, callback=NanwatchCallback(project="my-project"))`.

    Joins the run of this process, or starts one by `nanwatch.init(**options)`; only that may raise.
    """

    def __init__(self, verbose: int = 0, **options: Any) -> None:
        super().__init__(verbose)
        join(options)

    @never_raises
    def _on_training_start(self) -> None:
        run = active()
        if run is None:
            return
        model: Any = self.model
        run.watch(**networks(model))
        told = {name: getattr(model, name, None) for name in SETTINGS}
        told = {k: v for k, v in told.items() if isinstance(v, int | float | str)}
        facts("stable-baselines3", {"algorithm": type(model).__name__, **told})
        if not any(isinstance(output, Writer) for output in model.logger.output_formats):
            model.logger.output_formats.append(Writer())

    def _on_step(self) -> bool:
        return True


def networks(model: Any) -> dict[str, Any]:
    """Networks that have an optimizer of their own, by name."""
    found = {}
    for name in ("actor", "critic"):
        network = getattr(model, name, None)
        if getattr(network, "optimizer", None) is not None:
            found[name] = network
    return found


class Writer(KVWriter):
    """An output format of SB3's logger. It logs at the present attempt: SB3 counts env steps."""

    @never_raises
    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Everything recorded since the last dump."""
        values = dict(key_values)
        if "train/entropy_loss" in values:
            # SB3 records the negative mean entropy.
            values["train/entropy"] = -float(values["train/entropy_loss"])
        explained = values.get("train/explained_variance")
        if explained is not None and math.isnan(explained):
            del values["train/explained_variance"]  # undefined where all returns are equal
        forward(values)

    def close(self) -> None:
        """Nothing to close."""
