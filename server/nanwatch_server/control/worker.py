"""One thread that does jobs in order and at given monotonic times; the desk's own."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)

Job = Callable[[], None]

_RETRY_S = 1.0
_TRIES_MAX = 60


class Worker:
    """Jobs must be repeatable: one that raises (database busy, disk full) is tried again."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._heap: list[tuple[float, int, int, Job]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def soon(self, job: Job) -> None:
        """Do the job after those that are already waiting."""
        self.at(float("-inf"), job)

    def at(self, when: float, job: Job, tries: int = 0) -> None:
        """Do the job at or after this monotonic time."""
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._order), tries, job))
            self._changed.notify()

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="nanwatch-commands", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop after the job in hand; what waits is dropped (the store knows where it stood)."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def pump(self) -> int:
        """Do everything that is due, in the calling thread; returns how many jobs that were."""
        done = 0
        while (due := self._take(block=False)) is not None:
            self._do(*due)
            done += 1
        return done

    def _run(self) -> None:
        while (due := self._take(block=True)) is not None:
            self._do(*due)

    def _take(self, *, block: bool) -> tuple[int, Job] | None:
        with self._changed:
            while not self._closing:
                wait = self._heap[0][0] - self._now() if self._heap else None
                if wait is not None and wait <= 0:
                    _, _, tries, job = heapq.heappop(self._heap)
                    return tries, job
                if not block:
                    return None
                self._changed.wait(wait)
            return None

    def _do(self, tries: int, job: Job) -> None:
        try:
            job()
        except Exception:
            _log.exception("a job of the command desk failed", tries=tries)
            if tries < _TRIES_MAX:
                self.at(self._now() + _RETRY_S, job, tries + 1)
