"""A process of its own that judges the last runs by other limits: one job, then it ends.

`python -m nanwatch_server.backtest.child`: the job as JSON on stdin, one JSON object a line on
stdout. Apart from the server because the rules compute in Python: in a thread they would hold up
every acknowledgement (docs/decisions/0051). Started by `bench` alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanwatch_server.backtest.compare import compared
from nanwatch_server.backtest.stored import last_runs, replay_run
from nanwatch_server.detect.registry import ENABLED
from nanwatch_server.domain.models import ProjectRules, Run
from nanwatch_server.pipeline.rulebook import Limits, limits_of
from nanwatch_server.store.base import StoreError
from nanwatch_server.store.ordered import Moment, moment
from nanwatch_server.store.sql import reading_database

MEMORY_MAX = 3 << 30
"""Bytes of data of this process."""

NICE = 10
"""Whatever serves trainings goes first."""

TELL_S = 0.2

Tell = Callable[[dict[str, Any]], None]


def judge(job: dict[str, Any], tell: Tell) -> None:
    """The last runs of a project, newest first; each in a moment of its own, so that no long
    reading keeps the database's log from being folded in."""
    tried = ProjectRules(project=job["project"], text=job["text"])
    with reading_database(Path(job["data_dir"]), job["database"]) as engine:
        with moment(engine) as reads:
            runs = last_runs(reads, job["project"], job["last"])
        tell({"total": len(runs)})
        for number, run in enumerate(runs):
            with moment(engine) as reads:
                tell({"run": _judged(reads, run, tried, _progress(tell, number, run))})


def _judged(reads: Moment, run: Run, tried: ProjectRules, progress: Any) -> dict[str, Any]:
    limits = limits_of(reads, run.project, tried)
    return compared(replay_run(reads, run, limits, progress), _off(limits))


def _off(limits: Limits) -> frozenset[str]:
    return frozenset(rule for rule, values in limits.items() if values.get(ENABLED) is False)


def _progress(tell: Tell, number: int, run: Run) -> Callable[[int, int], None]:
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_S:
            told = time.monotonic()
            tell({"at": number, "name": run.name, "share": done / max(total, 1)})

    return progress


def _limit() -> None:
    """Bounds of this process, where the system has them."""
    with suppress(AttributeError, OSError):
        os.nice(NICE)
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """One job; what goes wrong is an answer too."""
    _limit()
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def tell(said: dict[str, Any]) -> None:
        own.write(json.dumps(said, allow_nan=False) + "\n")
        own.flush()

    try:
        judge(json.loads(sys.stdin.buffer.read()), tell)
        tell({"done": True})
    except BrokenPipeError:
        raise SystemExit(0) from None  # nobody waits for it any more
    except StoreError as error:
        tell({"error": str(error)})
    except MemoryError:
        tell({"error": f"it needs more than {MEMORY_MAX >> 30} GiB of memory: try fewer runs"})


if __name__ == "__main__":
    main()
