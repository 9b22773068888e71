"""The one back-test of a server: starts the child, follows what it says, ends it. Thread-safe.

`api` asks, `app` makes and closes it. What a back-test found is kept until the next one, so that a
person may look at a run and come back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import structlog

from nanwatch_server.backtest.stored import sentence_of

_log = structlog.get_logger()

LAST_MOST = 50
"""Runs of one back-test."""

SECONDS_MOST = 600.0
CLOSE_S = 5.0
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""numpy's libraries would take every core for the smallest of sums."""
ERROR_CHARS_MAX = 300


class BusyError(Exception):
    """Another back-test runs; the text says whose and how far it is."""


@dataclass
class Job:
    """One back-test, as the page shows it."""

    project: str
    text: str
    last: int
    by: str
    started_at: float
    id: str = field(default_factory=lambda: uuid4().hex)
    state: str = "running"
    """Then done, cancelled or failed."""
    total: int | None = None
    """Runs to be judged; None until they are known."""
    share: float = 0.0
    """Of the run at hand."""
    name: str = ""
    runs: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    ended_at: float | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        names = ("id", "project", "text", "last", "by", "started_at", "ended_at", "state", "total",
                 "share", "name", "error")  # fmt: skip
        said = sentence_of([run["fired"] for run in self.runs]) if self.runs else ""
        return {name: getattr(self, name) for name in names} | {
            "sentence": said,
            "runs": list(self.runs),
        }


class Bench:
    """Runs back-tests, one at a time."""

    def __init__(
        self,
        data_dir: Path,
        database: str = "",
        clock: Callable[[], float] = time.time,
        seconds_most: float = SECONDS_MOST,
    ) -> None:
        self._place = {"data_dir": str(data_dir), "database": database}
        self._clock, self._seconds_most = clock, seconds_most
        self._lock = threading.Lock()
        self._job: Job | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self, project: str, text: str, last: int, by: str) -> dict[str, Any]:
        """Begin; the text must have been checked. Raises `BusyError`."""
        with self._lock:
            running = self._job
            if self._closed or (running is not None and running.state == "running"):
                raise BusyError(self._busy(running))
            job = Job(project, text, last, by, self._clock())
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "nanwatch_server.backtest.child"],
                env=os.environ | ONE_CORE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C is for the server, which ends its children in order.
                process_group=0 if os.name == "posix" else None,
            )
            self._job = job
            self._thread = threading.Thread(
                target=self._follow, args=(job, self._child), name="nanwatch-backtest", daemon=True
            )
            self._thread.start()
            return job.plain()

    def latest(self) -> dict[str, Any] | None:
        """The one that runs, or the last one; None before the first."""
        with self._lock:
            return None if self._job is None else self._job.plain()

    def cancel(self, job_id: str) -> dict[str, Any] | None:
        """End it, and keep what it has found; None if it is not the latest."""
        with self._lock:
            job = self._job
            if job is None or job.id != job_id:
                return None
            self._end(job, "cancelled")
            return job.plain()

    def close(self) -> None:
        """The server ends."""
        with self._lock:
            self._closed = True
            if self._job is not None:
                self._end(self._job, "cancelled")
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_S)

    # --- the thread ---------------------------------------------------------------------------

    def _follow(self, job: Job, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin and child.stdout and child.stderr
        timer = threading.Timer(self._seconds_most, self._late, (job,))
        timer.daemon = True
        timer.start()
        said = _Tail(child.stderr)
        try:
            with suppress(BrokenPipeError), child:
                wanted = {"project": job.project, "text": job.text, "last": job.last}
                child.stdin.write(json.dumps(self._place | wanted).encode())
                child.stdin.close()
                for line in child.stdout:
                    self._hear(job, json.loads(line))
            said.join()
            with self._lock:
                if job.state == "running":
                    _log.error("a back-test failed", exit=child.returncode, said=said.text)
                    self._end(job, "failed", "it ended unexpectedly; the server's log says more")
        except Exception:
            _log.exception("a back-test failed")
            with self._lock:
                self._end(job, "failed", "an error inside the server; its log has the details")
        finally:
            timer.cancel()

    def _hear(self, job: Job, said: dict[str, Any]) -> None:
        with self._lock:
            if job.state != "running":
                return
            if "run" in said:
                job.runs.append(said["run"])
                job.share, job.name = 0.0, ""
            elif "total" in said:
                job.total = said["total"]
            elif "at" in said:
                job.share, job.name = said["share"], said["name"]
            elif "error" in said:
                self._end(job, "failed", said["error"][:ERROR_CHARS_MAX])
            elif "done" in said:
                self._end(job, "done")

    def _late(self, job: Job) -> None:
        with self._lock:
            minutes = f"{self._seconds_most / 60:.0f} minutes"
            self._end(job, "failed", f"it was ended after {minutes}: try fewer runs")

    def _end(self, job: Job, state: str, error: str = "") -> None:
        """With the lock held; what has ended stays as it ended."""
        if job.state != "running":
            return
        job.state, job.error, job.ended_at = state, error, self._clock()
        if state != "done" and self._child is not None:
            with suppress(OSError):
                self._child.kill()

    def _busy(self, job: Job | None) -> str:
        if job is None or self._closed:
            return "the server is about to end"
        where = f"project {job.project}" if job.project else "every project"
        of = f"{len(job.runs)} of {job.total}" if job.total is not None else "no"
        return (
            f"{job.by} is trying limits of {where}, {of} runs done: wait for it or cancel it; "
            "one back-test runs at a time"
        )


class _Tail(threading.Thread):
    """The end of what the child writes to its standard error, so that the pipe never fills."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(name="nanwatch-backtest-said", daemon=True)
        self._pipe, self.text = pipe, ""
        self.start()

    def run(self) -> None:
        for line in self._pipe:
            self.text = (self.text + line.decode("utf-8", "replace"))[-2000:]
