"""TensorBoard: `mirror()` makes every scalar of every `SummaryWriter` a nanwatch point too.

For `torch.utils.tensorboard` and `tensorboardX`, before or after writers are made. The writers'
own files are as ever. Names and steps are dealt with as in `base.forward`.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from nanwatch.integrations.base import forward, never_raises
from nanwatch.integrations.patches import Patches

logger = logging.getLogger("nanwatch")

WRITERS = ("torch.utils.tensorboard", "tensorboardX")

_patches = Patches()


def mirror() -> Callable[[], None]:
    """Begin; returns a function that ends it. Never raises; twice is as good as once."""
    classes = [found for name in WRITERS if (found := _writer(name)) is not None]
    if not classes:
        logger.warning(
            "nanwatch: nothing to mirror: neither torch.utils.tensorboard (pip install "
            "tensorboard) nor tensorboardX can be imported"
        )
    for writer in classes:
        _patches.wrap(writer, "add_scalar", _scalar)
        _patches.wrap(writer, "add_scalars", _scalars)
    return _patches.undo


def _writer(name: str) -> Any:
    try:
        return importlib.import_module(name).SummaryWriter
    except Exception as error:  # absent, or broken in a way of its own
        logger.debug("nanwatch: %s: %s", name, error)
        return None


@never_raises
def _scalar(
    writer: Any,
    tag: Any = "",
    scalar_value: Any = None,
    global_step: Any = None,
    *_: Any,
    **__: Any,
) -> None:
    forward({str(tag): scalar_value}, step=_step(global_step))


@never_raises
def _scalars(
    writer: Any,
    main_tag: Any = "",
    tag_scalar_dict: Any = None,
    global_step: Any = None,
    *_: Any,
    **__: Any,
) -> None:
    forward(tag_scalar_dict or {}, prefix=str(main_tag), step=_step(global_step))


def _step(given: Any) -> int | None:
    return None if given is None else int(given)
