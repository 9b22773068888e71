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


def named(variables: dict[str, Any], kind: type) -> dict[str, Any]:
    """Objects of a kind among a training's variables, or among the attributes of one (an agent)."""
    found = {name: value for name, value in variables.items() if isinstance(value, kind)}
    for owner in variables.values():
        if type(owner).__module__.startswith("scenarios."):
            inner = {n: v for n, v in vars(owner).items() if isinstance(v, kind)}
            found |= {n: v for n, v in inner.items() if n not in found}
    return found


def main() -> None:
    """Train, and save what there is after the last step."""
    torch.set_num_threads(1)
    directory, name, *arguments = sys.argv[1:]
    scenario: Any = importlib.import_module(f"scenarios.{name}")
    steps, variables = 0, dict[str, Any]()

    def pace(steps_per_second: float, began: float) -> None:
        # Every scenario calls it at the end of each step. Kept alive here: a training that ends
        # by an exception takes its model with it.
        nonlocal steps, variables
        steps += 1
        variables = dict(sys._getframe(1).f_locals)

    scenario.pace = pace
    sys.argv = [name, *arguments]
    try:
        scenario.train(scenario.parse_args())
    except (RuntimeError, ValueError) as error:
        print(f"ended by {type(error).__name__}: {error}", file=sys.stderr)
    modules = named(variables, torch.nn.Module)
    print(save(Path(directory), steps, modules, named(variables, torch.optim.Optimizer), {}))


if __name__ == "__main__":
    main()
