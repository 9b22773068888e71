"""Weights & Biases: `mirror()` makes what `wandb.log` and `run.log` log nanwatch points too.

Before or after `wandb.init`. What wandb keeps is as ever. Names and steps are dealt with as in
`base.forward`; images, tables and histograms are left to wandb.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from nanwatch.integrations.base import forward, never_raises
from nanwatch.integrations.patches import Patches

logger = logging.getLogger("nanwatch")

_patches = Patches()


def mirror() -> Callable[[], None]:
    """Begin; returns a function that ends it. Never raises; twice is as good as once."""
    try:
        import wandb

        _patches.wrap(wandb.Run, "log", _log)
        _rebind(wandb)
    except Exception as error:
        logger.warning("nanwatch: wandb cannot be mirrored: %s: %s", type(error).__name__, error)
    return _end


@never_raises
def _end() -> None:
    import wandb

    _patches.undo()
    _rebind(wandb)


def _rebind(wandb: Any) -> None:
    """`wandb.log` is a method of the run that is on, bound when that began."""
    if wandb.run is not None:
        wandb.log = wandb.run.log


@never_raises
def _log(run: Any, data: Any = None, step: Any = None, *_: Any, **__: Any) -> None:
    if isinstance(data, Mapping):
        forward(data, step=None if step is None else int(step))
