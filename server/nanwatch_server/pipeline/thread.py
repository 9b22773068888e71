"""The thread after COMMIT: a bounded queue, and what is shown before the rules see it.

Points reach tail and browsers first, then `judge`. The intake's thread fills the queue; judging
happens on a thread of its own, and what others may call from theirs is said at `Pipeline`.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from nanwatch.contract.frames import Table
from nanwatch_server.domain.models import Incident
from nanwatch_server.domain.ports import CommandDesk, Store
from nanwatch_server.live.hub import Hub
from nanwatch_server.pipeline.judge import (
    REBUILD_WITHIN_S,
    SAVE_S,
    Judge,
    Listener,
    Note,
    StoppedError,
)
from nanwatch_server.store.base import StoreUnavailableError
from nanwatch_server.store.replay import Committed, Points, tables_of
from nanwatch_server.store.tail import Tail

_log = structlog.get_logger()

QUEUE_MAX = 512
"""Journal rows between COMMIT and rules; when it is full, commits wait and credit falls."""

TOGETHER = 32
"""Journal rows that are judged together when many wait."""

CLOSE_S = 2.0


class Pipeline:
    """Owns the detection thread. `change` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        hub: Hub,
        desk: CommandDesk,
        listener: Listener,
        arrived: Callable[[str, int, int], None] = lambda run_id, points, series: None,
        clock: Callable[[], float] = time.time,
        announce: Note = lambda uow, incident: None,
        limits: Callable[[str], dict[str, dict[str, Any]]] = lambda project: {},
    ) -> None:
        self._store, self._tail, self._hub, self._clock = store, tail, hub, clock
        self._listener, self._arrived = listener, arrived
        self._judge = Judge(store, tail, desk, listener, clock, self._late, announce, limits)
        self._queue: queue.Queue[Committed | None] = queue.Queue(QUEUE_MAX)
        self._backlog: deque[str] = deque()
        self._stop_at = math.inf
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="nanwatch-rules", daemon=True)

    def start(self) -> None:
        """Begin; rules of unfinished runs catch up with their journals while nothing else waits."""
        now = self._clock()
        for run in self._store.runs(limit=200)[0]:
            if run.ended_at is None and now - run.last_seen_at < REBUILD_WITHIN_S:
                self._backlog.append(run.id)
        self._thread.start()

    def coverage(self, run_id: str) -> list[dict[str, Any]]:
        """Which rules ran on how many records, and why others could not."""
        return self._judge.coverage(run_id)

    def limits_changed(self, project: str) -> None:
        """Other limits for the runs of a project, from the next points on."""
        self._judge.limits_changed(project)

    def close(self) -> None:
        """Judge what is queued, but not for long: the rest is judged at the next start."""
        self._stop_at = time.monotonic() + CLOSE_S
        self._backlog.clear()
        with suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_S)
        self._thread.join(timeout=2 * CLOSE_S)

    @property
    def depth(self) -> int:
        """Journal rows that wait for the rules."""
        return self._queue.qsize()

    def committed(self, committed: Committed) -> None:
        """Records that are on disk. Called by the intake's thread, in commit order."""
        while not self._late():
            with suppress(queue.Full):
                self._queue.put(committed, timeout=0.5)
                return

    def change(
        self, incident_id: str, edit: Callable[[Incident], Incident], note: Note
    ) -> Incident | None:
        """A person's change and its note, in one transaction; None if there is no incident."""
        return self._judge.change(incident_id, edit, note)

    def safe_upto(self, run_id: str) -> int:
        """Journal row up to which the rules need the journal no more."""
        return self._judge.safe_upto(run_id)

    def forget(self, run_id: str) -> None:
        """The run was deleted."""
        self._judge.forget(run_id)

    def knows(self, run_id: str) -> bool:
        """True if the run's rules are in memory."""
        return run_id in self._judge.states

    # --- the thread ---------------------------------------------------------------------------

    def _late(self) -> bool:
        return time.monotonic() > self._stop_at

    def _run(self) -> None:
        while not self._ended and (item := self._next()) is not None and not self._late():
            try:
                if isinstance(item, str):
                    self._judge.learn(item, [])
                else:
                    for alike in self._more(item):
                        shown = [(one, self._show(one)) for one in alike]
                        self._judge.learn(alike[0].stream.run_id, shown)
                self._judge.save_when_due()
                self._judge.listen()
            except StoppedError:
                break  # judged at the next start
            except Exception:
                _log.exception("the pipeline failed on one item")
        with suppress(StoreUnavailableError):
            self._judge.save()

    def _next(self) -> Committed | str | None:
        """What came from a training before what an earlier server left."""
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            with suppress(IndexError):
                return self._backlog.popleft()
            return self._wait()

    def _wait(self) -> Committed | str | None:
        while True:
            try:
                return self._queue.get(timeout=SAVE_S)
            except queue.Empty:
                with suppress(StoreUnavailableError):
                    self._judge.save()

    def _more(self, item: Committed) -> list[list[Committed]]:
        """What waits behind it too, by run: rules are quicker over long tables."""
        runs = {item.stream.run_id: [item]}
        for _ in range(TOGETHER - 1):
            try:
                following = self._queue.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._ended = True
                break
            runs.setdefault(following.stream.run_id, []).append(following)
        return list(runs.values())

    def _show(self, committed: Committed) -> list[Points]:
        """To the tail and the browsers; the decoded tables."""
        run_id = committed.stream.run_id
        tables = tables_of(committed)
        if tables:
            self._tail.append(run_id, committed.row, tables)
        points = sum(table.values.size for table in tables)
        self._arrived(run_id, points, max((len(table.series) for table in tables), default=0))
        for points in tables:
            ids = [series.id for series in points.series]
            self._hub.points(run_id, ids, points.steps, points.times, points.values)
        for record in committed.records:
            if not isinstance(record, Table):
                self._listener.record(committed.stream, record)
        return tables
