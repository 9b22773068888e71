"""`nanwatch run`: runs an unchanged training command with nanwatch inside."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from nanwatch.cli.output import console, fail
from nanwatch.config import data_directory


def run(
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND",
            help="train.py, torchrun …, accelerate launch …, python …; all after it is its own.",
        ),
    ],
    module: Annotated[
        bool, typer.Option("-m", help="The command is a module: nanwatch run -m package …")
    ] = False,
    project: Annotated[
        str | None,
        typer.Option(help="Project, where the script names none. Default: NANWATCH_PROJECT."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run, where the script gives none.")
    ] = None,
    control: Annotated[
        str, typer.Option(help="What people may do: default, or none for a read-only run.")
    ] = "default",
    lr_factor: Annotated[
        str, typer.Option(help="Bounds of the factor on the learning rate, as lowest:highest.")
    ] = "0.001:1",
) -> None:
    """Watch a training without changing its script.

    The command runs as without nanwatch: same output, exit code, arguments and signals. Every
    Python process that it starts and that trains is watched: nanwatch run train.py --lr 3e-4,
    nanwatch run torchrun --nproc-per-node 4 train.py, or torchrun … -m nanwatch run train.py.

    Grants by default: checkpoint, stop, and a learning-rate factor between 0.001 and 1. A
    Control(...) in the script wins.
    """
    from nanwatch.launch import NotFound, plan, replace_process

    env = {**os.environ, "NANWATCH_LAUNCH_CONTROL": _grant(control, lr_factor)}
    for variable, given in (("NANWATCH_PROJECT", project), ("NANWATCH_RUN_NAME", name)):
        if given:
            env[variable] = given
    if env.get("NANWATCH_DATA_DIR"):  # where it is seen from here, wherever the script goes
        env["NANWATCH_DATA_DIR"] = str(data_directory())
    try:
        what = plan(command, as_module=module, environ=env)
    except NotFound as error:
        fail(str(error), 127)
    if sys.flags.ignore_environment:
        console.print("nanwatch: python -E or -I shuts nanwatch out: the script runs unwatched")
    try:
        raise SystemExit(replace_process(what))
    except OSError as error:
        fail(f"cannot start {what.argv[0]}: {error.strerror or error}", 126)


def _grant(control: str, lr_factor: str) -> str:
    """What the launch allows, as text for the environment of the run."""
    if control not in ("default", "none"):
        fail(f"--control expects default or none; got {control!r}")
    if control == "none":
        return "none"
    try:
        low, high = (float(part) for part in lr_factor.split(":"))
    except ValueError:
        fail(f"--lr-factor expects lowest:highest, for example 0.001:1; got {lr_factor!r}")
    if not 0 < low <= high < float("inf"):
        fail(f"--lr-factor expects two numbers above 0, the lesser first; got {lr_factor!r}")
    return json.dumps({"lr_factor": [low, high], "checkpoint": True, "stop": True, "tracing": True})
