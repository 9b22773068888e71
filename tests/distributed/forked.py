"""What a forked rank does first: it becomes a process as its launcher would have made it.

Its parent, multiprocessing's forkserver, has imported torch already (`conftest.PRELOADED`).
"""

from __future__ import annotations

import os
import sys

from distributed import talking, training

__all__ = ["begin"]


def begin(
    rank: int, world: int, port: int, arguments: list[str], env: dict[str, str], log: str
) -> None:
    """One rank of a training; what it prints goes to `log`."""
    os.environ.clear()
    os.environ.update(env)
    if world > 1:
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(port)
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    script = talking if arguments[0] == "talking" else training
    try:
        script.main(rank, world, arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
