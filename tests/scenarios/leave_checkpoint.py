"""Runs a scenario to its end, however it ends, and leaves a checkpoint of nanwatch's own format.

Started by `test_diagnosed.py`: `python leave_checkpoint.py DIRECTORY sac --steps 300`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from nanwatch.control.checkpoint import save
from nanwatch.probes.discovery import instances, names_in_frames, root_modules


def main() -> None:
    """Train, and save what there is after the last step."""
    torch.set_num_threads(1)
    directory, name, *arguments = sys.argv[1:]
    scenario: Any = importlib.import_module(f"scenarios.{name}")
    found: dict[str, Any] = {"steps": 0, "modules": {}, "optimizers": {}}

    def pace(steps_per_second: float, began: float) -> None:
        # Every scenario calls it at the end of each step. Kept alive here: a training that ends
        # by an exception takes its model with it.
        found["steps"] += 1
        modules, optimizers = root_modules(), instances(torch.optim.Optimizer)
        names = names_in_frames([*modules, *optimizers])
        found["modules"] = {names[id(m)]: m for m in modules if id(m) in names}
        found["optimizers"] = {names[id(o)]: o for o in optimizers if id(o) in names}

    scenario.pace = pace
    sys.argv = [name, *arguments]
    try:
        scenario.train(scenario.parse_args())
    except (RuntimeError, ValueError) as error:
        print(f"ended by {type(error).__name__}: {error}", file=sys.stderr)
    print(save(Path(directory), found["steps"], found["modules"], found["optimizers"], {}))


if __name__ == "__main__":
    main()
