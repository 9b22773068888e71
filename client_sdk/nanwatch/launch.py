"""Runs a training script in this process with nanwatch started first (`nanwatch run`).

The script sees its own `sys.argv`, `__main__` and exit code, as if Python had started it.
"""

from __future__ import annotations

import os
import runpy
import sys

from nanwatch.control.inbox import StopTraining
from nanwatch.guard import GUARD


def run_script(command: list[str], *, as_module: bool, project: str) -> int:
    """Run the script; returns 0 if it was stopped from the page. Its exceptions pass through."""
    import nanwatch

    target, *arguments = command
    # `runpy` sets argv[0] itself only partly: scripts look at it before anything else.
    sys.argv = [target, *arguments]
    if not as_module:
        sys.path[0] = os.path.dirname(os.path.abspath(target))
    run = nanwatch.init(project=project, config=_arguments(arguments))
    try:
        if as_module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    except StopTraining as stop:
        print(stop, file=sys.stderr, flush=True)
        return 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else (0 if leave.code is None else 1)
        run.finish("finished" if code == 0 else f"exit code {code}", code)
        raise
    except BaseException as error:
        run.finish(f"{type(error).__name__}: {error}"[:2000], 1)
        raise
    return 0


def _arguments(arguments: list[str]) -> dict[str, str]:
    """`--lr 3e-4 --amp` as `{"lr": "3e-4", "amp": "1"}`, so that the diagnosis knows them."""
    found: dict[str, str] = {}
    try:
        for index, argument in enumerate(arguments):
            if not argument.startswith("--"):
                continue
            name, equals, value = argument[2:].partition("=")
            if not equals:
                following = arguments[index + 1 : index + 2]
                value = following[0] if following and not following[0].startswith("--") else "1"
            found[name.replace("-", "_")] = value
    except Exception as error:
        GUARD.note("launch", error)
    return found
