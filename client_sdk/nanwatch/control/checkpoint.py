"""Saves modules, optimizers, schedulers and scalers of the running training into one file.

Called on the training thread at the close of an attempt; the file appears whole or not at all.
The digest is computed on the background thread.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from nanwatch.contract.frames import CheckpointSaved

FORMAT = 1


def save(
    directory: Path,
    step: int,
    modules: dict[str, Any],
    optimizers: dict[str, Any],
    others: dict[str, Any],
    name: str = "step",
) -> Path:
    """Write `<name>-<n>.pt`; load it with `torch.load(path, weights_only=True)`.

    Raises OSError when the disk refuses, and whatever a user's `state_dict` raises.
    """
    import torch

    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"{name}-{step:09d}.pt"
    part = path.with_suffix(".part")
    state = {
        "format": FORMAT,
        "step": step,
        "time": time.time(),
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "others": {name: other.state_dict() for name, other in others.items()},
    }
    try:
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


def report(path: Path, step: int, command_id: str) -> CheckpointSaved:
    """Describe a checkpoint: size and SHA-256. Background thread."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return CheckpointSaved(
        step=step,
        time=time.time(),
        path=str(path),
        bytes=path.stat().st_size,
        sha256=digest.hexdigest(),
        command_id=command_id,
    )
