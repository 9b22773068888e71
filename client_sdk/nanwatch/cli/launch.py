"""`nanwatch run`: runs an unchanged training script with nanwatch inside."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from nanwatch.cli.output import fail


def run(
    command: Annotated[
        list[str], typer.Argument(help="train.py and its arguments, or -m package …")
    ],
    module: Annotated[bool, typer.Option("-m", help="The script is a module name.")] = False,
    project: Annotated[str, typer.Option(help="Project the run belongs to.")] = "default",
    control: Annotated[
        str, typer.Option(help="What people may do: default, or none for a read-only run.")
    ] = "default",
    lr_factor: Annotated[
        str, typer.Option(help="Bounds of the factor on the learning rate, as lowest:highest.")
    ] = "0.001:1",
) -> None:
    """Watch a training without changing its script.

    Grants by default: checkpoint, stop, and a learning-rate factor between 0.001 and 1. A
    Control(...) in the script wins.
    """
    if control not in ("default", "none"):
        fail(f"--control expects default or none; got {control!r}")
    grant = "none"
    if control == "default":
        try:
            low, high = (float(part) for part in lr_factor.split(":"))
        except ValueError:
            fail(f"--lr-factor expects lowest:highest, for example 0.001:1; got {lr_factor!r}")
        grant = json.dumps({"lr_factor": [low, high], "checkpoint": True, "stop": True})
    os.environ["NANWATCH_LAUNCH_CONTROL"] = grant
    from nanwatch.launch import run_script

    raise SystemExit(run_script(command, as_module=module, project=project))
