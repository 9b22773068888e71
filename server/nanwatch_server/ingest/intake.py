"""The one writer of what trainings send: jobs of all connections, committed together.

A job is told that it is done only after COMMIT. If a common commit fails, each job is tried alone
and only the culprit is told; if the database cannot be written at all, nothing is lost or acked and
the same jobs are tried again until it can.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from nanwatch_server.domain.models import Stream
from nanwatch_server.domain.ports import Store, UnitOfWork
from nanwatch_server.store.base import StoreUnavailableError

_log = structlog.get_logger()

GROUP_WINDOW_S = 0.005
"""While the disk syncs the next group gathers; this adds a little when the server is idle."""
GROUP_GROWS = 4
"""A window in which so many jobs came is followed by another…"""
GROUP_MOST_S = 0.02
"""…up to this (design 4): fewer commits for many trainings with small batches."""
GROUP_JOBS_MAX = 256
RETRY_S = 0.5
BUSY_JOBS = 1024


@dataclass
class Job:
    """One piece of work. `write` may run more than once, each time in a fresh transaction."""

    write: Callable[[UnitOfWork], Any]
    done: Callable[[Any], None]
    """With the result of `write`, after COMMIT."""
    failed: Callable[[Exception], None]
    """This job, alone, cannot be written."""
    bury: Callable[[UnitOfWork], Any] | None = None
    """What is written at once instead, before any later job, if this one fails."""
    wait: Callable[[], None] = lambda: None
    """The database cannot be written now; the job stays."""
    stream: Stream | None = None
    """Whose high-water mark `write` will ask for."""
    result: Any = None


class Intake:
    """Owns the writer thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="nanwatch-intake", daemon=True)
        self._stopping = threading.Event()
        self.stalled = False
        """True while the database cannot be written."""

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what is queued, then stop. If the database cannot be written, it stays unacked."""
        self._stopping.set()
        self._jobs.put(None)
        self._thread.join(timeout=10.0)

    def submit(self, job: Job) -> None:
        """Queue a job; order is kept. Safe from any thread."""
        self._jobs.put(job)

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return self._jobs.qsize()

    def _run(self) -> None:
        last = False
        while not last:
            jobs, last = self._gather()
            while jobs and not self._commit(jobs):
                for job in jobs:
                    _call(job.wait)
                if self._stopping.is_set():
                    return
                time.sleep(RETRY_S)

    def _gather(self) -> tuple[list[Job], bool]:
        """The next jobs, and whether they are the last."""
        first = self._jobs.get()
        if first is None:
            return [], True
        self._let_come()
        jobs = [first]
        while len(jobs) < GROUP_JOBS_MAX:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _let_come(self) -> None:
        """Wait as long as it is worth waiting for more."""
        until, known = time.monotonic() + GROUP_MOST_S, 0
        while known < GROUP_JOBS_MAX:
            time.sleep(GROUP_WINDOW_S)
            here = self._jobs.qsize()
            if here < known + GROUP_GROWS or time.monotonic() >= until:
                return
            known = here

    def _commit(self, jobs: list[Job]) -> bool:
        """Write all jobs; False if the database cannot be written now."""
        try:
            self._write(jobs)
        except StoreUnavailableError as error:
            if not self.stalled:
                _log.error("the database cannot be written; nothing is acked", error=str(error))
            self.stalled = True
            return False
        except Exception as error:
            if len(jobs) == 1:
                _log.warning("a submission was refused by the database", error=repr(error)[:500])
                return self._bury(jobs[0], error)
            # One of them is poison: each alone, so that only the culprit is refused.
            while jobs:
                if not self._commit(jobs[:1]):
                    return False  # the rest stays in the caller's list
                jobs.pop(0)
            return True
        if self.stalled:
            _log.info("the database can be written again")
        self.stalled = False
        for job in jobs:
            _call(job.done, job.result)
        return True

    def _bury(self, job: Job, error: Exception) -> bool:
        if job.bury is not None:
            try:
                with self._store.write() as uow:
                    job.bury(uow)
            except StoreUnavailableError:
                return False  # told only once it is written down
            except Exception as second:
                _log.error("a refused submission cannot be passed over", error=repr(second)[:500])
        _call(job.failed, error)
        return True

    def _write(self, jobs: list[Job]) -> None:
        with self._store.write(bulk=True) as uow:
            uow.expect([job.stream for job in jobs if job.stream is not None])
            for job in jobs:
                job.result = job.write(uow)


def _call(listener: Callable[..., None], *args: Any) -> None:
    try:
        listener(*args)
    except Exception:
        _log.exception("a listener of the intake failed")
