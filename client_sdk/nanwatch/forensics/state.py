"""What else is known when trouble comes: random generators, batch index, types. On trouble only.

Training thread; nothing waits for a device.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from nanwatch.probes.discovery import instances


def random_states() -> dict[str, Any]:
    """States of Python's, torch's and, where it is loaded, NumPy's random generators.

    As they are at the close of the bad attempt, thus after its batch was drawn and its dropout.
    """
    import torch

    version, numbers, gauss = random.getstate()
    states: dict[str, Any] = {
        "python": [version, list(numbers), gauss],
        "torch_cpu": bytes(torch.get_rng_state().tolist()),
    }
    if torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
        states["torch_cuda"] = [
            bytes(torch.cuda.get_rng_state(device).tolist())
            for device in range(torch.cuda.device_count())
        ]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, place, has_gauss, cached = numpy.random.get_state()
        states["numpy"] = [name, keys.tobytes(), int(place), int(has_gauss), float(cached)]
    return states


def facts(parameters: list[Any]) -> dict[str, str]:
    """Batch index, types of the parameters, number of threads: whatever can be had."""
    import torch

    found: dict[str, str] = {}
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    if kinds:
        found["dtype"] = ", ".join(kinds)
    devices = sorted({str(p.device) for p in parameters})
    if devices:
        found["device"] = ", ".join(devices)
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            dtype = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
            found["autocast"] = f"{device} {dtype}"
    batches = batch_indices()
    if batches:
        found["batch index"] = ", ".join(map(str, batches))
    return found


def batch_indices() -> list[int]:
    """Index, counted from 0, of the last batch that each running DataLoader iterator gave out."""
    loader = sys.modules.get("torch.utils.data.dataloader")
    base = getattr(loader, "_BaseDataLoaderIter", None)
    if base is None:
        return []
    found = [getattr(iterator, "_num_yielded", 0) - 1 for iterator in instances(base)]
    return sorted(index for index in found if index >= 0)[-4:]
