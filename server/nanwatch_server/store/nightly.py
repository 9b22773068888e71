"""What the server does by itself now and then: retention, backup, expired logins, deleted runs.

A thread of its own, so that a long backup holds up no compaction. `app` makes and ends it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from nanwatch_server.store import removal, retention
from nanwatch_server.store.backup import backups, make_backup, prune
from nanwatch_server.store.base import StoreError
from nanwatch_server.store.history import History
from nanwatch_server.store.tail import Tail

if TYPE_CHECKING:
    from nanwatch_server.store.sql import SqlStore

_log = structlog.get_logger()

ROUND_S = 30.0
HOUR_S = 3600.0
FIRST_BACKUP_S = 600.0
"""A server whose last backup is missing or overdue makes one after so long."""

RETRY_S = HOUR_S


@dataclass(frozen=True, slots=True)
class Backups:
    """Where, when (local hour) and how many."""

    directory: Path
    hour: int = 3
    keep: int = 3

    def due(self, now: float, started: float) -> bool:
        """True if the newest backup is older than the last time that one should have been made."""
        if not self.keep or now - started < FIRST_BACKUP_S:
            return False
        then = time.localtime(now)
        at = time.mktime((*then[:3], self.hour, 0, 0, 0, 0, -1))
        if at > now:
            at = time.mktime((then[0], then[1], then[2] - 1, self.hour, 0, 0, 0, 0, -1))
        made = backups(self.directory)
        return not made or made[-1].stat().st_mtime < at


class Nightly:
    """Owns the thread. `wake` may be called from any thread."""

    def __init__(
        self,
        store: SqlStore,
        history: History,
        tail: Tail,
        chunks: threading.Lock,
        *,
        data_dir: Path,
        retention_days: float | None,
        backups: Backups,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._history, self._tail, self._chunks = store, history, tail, chunks
        self._data_dir, self._days, self._backups = data_dir, retention_days, backups
        self._clock = clock
        self._started = clock()
        self._hourly_at = self._started + 60.0
        self._backup_at = 0.0
        self._stop, self._woken = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="nanwatch-nightly", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier server left of deleted runs."""
        self._woken.set()
        self._thread.start()

    def close(self) -> None:
        """Stop after the transaction at hand; a backup that is being made is given up."""
        self._stop.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def wake(self) -> None:
        """A run was deleted: its rows can go."""
        self._woken.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.wait(ROUND_S)
            self._woken.clear()
            for job in (self._sweep, self._hourly, self._backup):
                if self._stop.is_set():
                    return
                try:
                    job()
                except StoreError as error:
                    _log.error("put off", job=job.__name__, error=str(error))
                except Exception:
                    _log.exception("a nightly job failed", job=job.__name__)

    def _sweep(self) -> None:
        for run_id in removal.unfinished(self._store):
            rows = removal.sweep(self._store, self._history, run_id, self._stop.is_set)
            _log.info("a deleted run is gone", run=run_id, rows=rows)

    def _hourly(self) -> None:
        now = self._clock()
        if now < self._hourly_at:
            return
        self._hourly_at = now + HOUR_S
        with self._store.write() as uow:
            uow.purge_logins(now)
        dropped = retention.apply(
            self._store, self._tail, self._chunks, self._days, now, self._stop.is_set
        )
        if dropped:
            _log.info("points older than their project keeps them are dropped", points=dropped)

    def _backup(self) -> None:
        now = self._clock()
        if not self._store.is_file or now < self._backup_at:
            return
        if not self._backups.due(now, self._started):
            return
        self._backup_at = now + RETRY_S
        made = make_backup(self._data_dir, self._backups.directory, now)
        prune(self._backups.directory, self._backups.keep)
        _log.info("backup made and verified", file=str(made), bytes=made.stat().st_size)
