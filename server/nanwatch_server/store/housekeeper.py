"""Keeps the store in shape while the server runs: decides when which journal is compacted.

One thread of its own. `compactor` does the work, `pipeline` says what has come and which journal
rows the rules have safely seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from nanwatch_server.store.base import RunRemovedError, StoreUnavailableError
from nanwatch_server.store.compactor import compact
from nanwatch_server.store.history import History
from nanwatch_server.store.tail import Tail

if TYPE_CHECKING:
    from nanwatch_server.store.sql import SqlStore

_log = structlog.get_logger()

POINTS_WAITING = 500_000
"""So many points of one run are worth a pass."""

POINTS_A_SERIES = 256
"""…or this many of each series: chunks that are not full are written again by each pass."""

POINTS_WAITING_MOST = 8_000_000
"""Memory is worth more than fewer writes."""

QUIET_S = 120.0
"""What waits this long is compacted, however little it is."""

REST_S = 30.0
"""What a pass left because the rules were not saved yet follows within this, if no more comes."""

MANY_RUNS = 4
REST_MOST_S = 0.1
"""Between so many runs there is a rest as long as each took, at most this: trainings wait for
their acknowledgements meanwhile."""

ROUND_S = 1.0
VACUUM_PAGES = 256
"""Free pages given back to the disk in one round, 1 MiB: a short pause for the writer."""


@dataclass
class _Waiting:
    points: int = 0
    since: float = 0.0
    series: int = 1
    rest_until: float = 0.0


class Housekeeper:
    """Owns the thread. `committed` may be called from any thread."""

    def __init__(
        self,
        store: SqlStore,
        history: History,
        tail: Tail,
        safe_upto: Callable[[str], int],
        busy: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._history, self._tail = store, history, tail
        self._safe_upto, self._clock = safe_upto, clock
        self._busy_now = busy
        """True while trainings wait for their acks: then compaction waits, if memory allows."""
        self._lock = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}
        self._busy = self.chunks = threading.Lock()
        """One compaction at a time; who else changes chunks holds it too."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nanwatch-keeper", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier server left."""
        now = self._clock()
        with self._lock:
            for run_id in self._store.runs_with_journal():
                self._waiting.setdefault(run_id, _Waiting(since=now - QUIET_S / 2))
        self._thread.start()

    def close(self) -> None:
        """Stop after the transaction at hand."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30.0)

    def committed(self, run_id: str, points: int, series: int) -> None:
        """Points of so many series have come into the journal."""
        with self._lock:
            waiting = self._waiting.setdefault(run_id, _Waiting(since=self._clock()))
            waiting.points += points
            waiting.rest_until = 0.0
            waiting.series = max(waiting.series, series)

    def compact(self, run_id: str) -> int:
        """Everything that may be moved, now. The number of points moved."""
        moved, more = 0, True
        with self._busy:
            while more and not self._stop.is_set():
                safe = self._safe_upto(run_id)
                if safe <= self._history.upto(run_id):
                    break
                points, more = compact(self._store, self._history, self._tail, run_id, safe)
                moved += points
        return moved

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(ROUND_S):
            try:
                due = self._due()
                for run_id in due:
                    if self._stop.is_set():
                        return
                    began = time.monotonic()
                    try:
                        self._settle(run_id, self.compact(run_id))
                    except RunRemovedError:  # deleted while it was being compacted
                        self._settle(run_id, 0)
                    if len(due) >= MANY_RUNS:
                        self._stop.wait(min(time.monotonic() - began, REST_MOST_S))
                self._store.give_back(VACUUM_PAGES)
            except StoreUnavailableError as error:
                _log.error("points stay in the journal for now", error=str(error))
                self._stop.wait(10 * ROUND_S)
            except Exception:
                _log.exception("compaction failed")
                self._stop.wait(60 * ROUND_S)

    def _due(self) -> list[str]:
        now, busy = self._clock(), self._busy_now()
        with self._lock:
            due = []
            for run_id, one in self._waiting.items():
                many = min(max(POINTS_WAITING, POINTS_A_SERIES * one.series), POINTS_WAITING_MOST)
                wanted = one.points >= many or now - one.since >= QUIET_S or now < one.rest_until
                if wanted and (not busy or one.points >= POINTS_WAITING_MOST):
                    due.append(run_id)
        return due

    def _settle(self, run_id: str, moved: int) -> None:
        """A pass is over. What the rules had not safely seen by then waits for the next one."""
        left = self._store.journal_end(run_id) > self._history.upto(run_id)
        with self._lock:
            waiting = self._waiting[run_id]
            waiting.points = max(0, waiting.points - moved)
            waiting.since = self._clock()
            if moved:
                waiting.rest_until = waiting.since + REST_S
            if not left and not waiting.points:
                del self._waiting[run_id]
