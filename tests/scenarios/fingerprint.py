"""Runs a scenario and prints one hash of all weights and of everything it printed.

Started by `test_identical.py` as a program of its own, once with nanwatch and once without:
`python fingerprint.py sac --steps 300`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import runpy
import sys
from pathlib import Path
from typing import Any

import torch

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def keep_optimizers() -> list[Any]:
    """Every optimizer made from now on, so that its weights are still there at the end."""
    kept: list[Any] = []
    make = torch.optim.Optimizer.__init__

    def remember(optimizer: Any, *args: Any, **kwargs: Any) -> None:
        make(optimizer, *args, **kwargs)
        kept.append(optimizer)

    torch.optim.Optimizer.__init__ = remember  # type: ignore[method-assign]
    return kept


def digest(optimizers: list[Any], text: str) -> str:
    """SHA-256 over the bytes of every parameter and every tensor of optimizer state."""
    found = hashlib.sha256(text.encode())
    for optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            state = optimizer.state.get(parameter, {})
            tensors = [parameter, *(v for v in state.values() if isinstance(v, torch.Tensor))]
            for tensor in tensors:
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                found.update(flat.view(torch.uint8).numpy().tobytes())
    found.update(torch.get_rng_state().numpy().tobytes())
    return found.hexdigest()


def main() -> None:
    """Run the scenario named on the command line."""
    torch.set_num_threads(1)
    name, *arguments = sys.argv[1:]
    sys.argv = [name, *arguments]
    optimizers = keep_optimizers()
    output = io.StringIO()
    ended = "returned"
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(str(SCENARIOS / f"{name}.py"), run_name="__main__")
        except Exception as error:
            ended = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    assert optimizers, "the scenario made no optimizer"
    print(digest(optimizers, output.getvalue() + ended), ended)


if __name__ == "__main__":
    main()
