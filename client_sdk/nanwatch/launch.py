"""What `nanwatch run` makes of a command, and how nanwatch starts inside the processes it begins.

The command replaces this process: the script runs under a Python of its own, started as without
us, and nanwatch comes in by `_site/sitecustomize.py` through PYTHONPATH. So arguments, `__main__`,
flags, signals, exit code and child processes are the script's own. Called by the CLI, by
`_site/sitecustomize.py`, and by `run` in forked children.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanwatch.guard import GUARD

if TYPE_CHECKING:
    from nanwatch.config import Options

SITE = Path(__file__).resolve().parent / "_site"
_TAKES_A_VALUE = ("-W", "-X", "--check-hash-based-pycs")


class NotFound(Exception):
    """There is neither a script nor a program of this name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start instead of this process."""

    argv: list[str]
    env: dict[str, str]


def plan(command: list[str], *, as_module: bool, environ: Mapping[str, str]) -> Plan:
    """The command as it is started, and its environment. Raises `NotFound`.

    `train.py …`, a package directory and `-m package …` run under this Python with its flags;
    anything else (`torchrun`, `accelerate`, `python`, a shell script) is a program.
    """
    target, *arguments = command
    python = [sys.executable, *interpreter_flags(sys.orig_argv)]
    if as_module:
        argv = [*python, "-m", target, *arguments]
    elif _is_script(target):
        argv = [*python, target, *arguments]
    elif program := shutil.which(target):
        argv = [program, *arguments]
    else:
        raise NotFound(
            f"expected a script such as train.py, -m package, or a program such as torchrun; "
            f"there is no {target!r} here or on the PATH"
        )
    env = dict(environ)
    before = env.get("PYTHONPATH", "")
    entries = [entry for entry in before.split(os.pathsep) if entry != str(SITE)] if before else []
    env["PYTHONPATH"] = os.pathsep.join([str(SITE), *entries])
    env["NANWATCH_LAUNCHED"] = "1"
    return Plan(argv, env)


def _is_script(target: str) -> bool:
    if target.endswith((".py", ".pyw", ".pyz", ".pyc", ".zip")):
        return True
    if os.path.isdir(target):  # a directory may by chance be called as the program that is meant
        return os.path.isfile(os.path.join(target, "__main__.py"))
    return os.path.isfile(target) and not os.access(target, os.X_OK)


def interpreter_flags(orig_argv: list[str]) -> list[str]:
    """Options that this Python was started with: `torchrun` uses `-u`, tests use `-W`."""
    found: list[str] = []
    rest = iter(orig_argv[1:])
    for argument in rest:
        if argument in _TAKES_A_VALUE:
            found += [argument, next(rest, "")]
        elif argument.startswith("--check-hash-based-pycs"):
            found.append(argument)
        elif match := re.fullmatch(r"-([bBdEhiIOPqRsSuvVx?]*)([mcWX].*)?", argument):
            plain, valued = match.groups()
            if plain:
                found.append(f"-{plain}")
            if valued and valued[0] in "WX":
                found.append(f"-{valued}")
            elif valued:
                break  # -m or -c: what follows is no option of Python
        else:
            break
    return found


def replace_process(what: Plan) -> int:
    """Become the command. Returns its exit code only where a process cannot be replaced."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":  # there `exec` would give the prompt back while the script still runs
        return subprocess.call(what.argv, env=what.env)
    # Python ignores these signals; a shell script that inherits that could never take it back.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    return os.execve(what.argv[0], what.argv, what.env)


def begin() -> None:
    """Start a run in this process, unless the script has (called by `_site/sitecustomize.py`)."""
    import nanwatch
    from nanwatch import run

    torch = sys.modules["torch"]
    if run.initialised() or torch.utils.data.get_worker_info() is not None:
        return
    nanwatch.init(config=arguments_as_config(sys.argv[1:]))


def begin_in_child(of: Options) -> None:
    """Start a run in a forked child that trains; `of` are the options of its parent's run."""
    import nanwatch

    named: dict[str, Any] = {} if of.local else {"server": of.server, "token": of.token}
    config = arguments_as_config(sys.argv[1:])
    nanwatch.init(of.project, config=config, mode=of.mode, guard=of.guard, **named)


def arguments_as_config(arguments: list[str]) -> dict[str, str]:
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
