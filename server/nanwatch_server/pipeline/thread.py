"""The thread after COMMIT: a bounded queue, and what is shown before the rules see it.

Everything that waits reaches tail and browsers first; then one run is judged, the one that waits
longest, and so on; in turn with those whose values have just turned not finite. While many runs
wait, and none of them for long, it rests in between: so the threads on the way to an
acknowledgement have the interpreter to themselves most of the time, and what comes meanwhile is
judged together, which is quicker. The intake's thread fills the queue; judging happens on a thread
of its own, and what others may call from theirs is said at `Pipeline`.
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

import numpy as np
import structlog

from nanwatch.contract.frames import Table
from nanwatch_server.detect.rules.nonfinite import WATCHED
from nanwatch_server.domain.models import Incident
from nanwatch_server.domain.ports import CommandDesk, Store
from nanwatch_server.live.hub import Hub
from nanwatch_server.pipeline.judge import (
    LISTEN_S,
    REBUILD_WITHIN_S,
    Judge,
    Listener,
    Note,
    StoppedError,
)
from nanwatch_server.store.base import StoreUnavailableError
from nanwatch_server.store.replay import Committed, Points, tables_of
from nanwatch_server.store.tail import Tail

_log = structlog.get_logger()

BYTES_MAX = 64 << 20
"""Values between COMMIT and rules; when there are so many, commits wait and credit falls."""

ROW_BYTES = 4096
"""About what a journal row takes beside its values."""

FULL_S = 0.01

SHOWN_BYTES = 4 << 20
"""Values that are shown before the next run is judged, about."""

MANY_RUNS = 8
"""So many runs that wait for the rules are many."""

REST_SHARE = 2.0
REST_MOST_S = 0.005
"""Rest after each of many runs: twice as long as it took, at most this."""

PATIENCE_S = 2.0
"""A run that has waited so long for the rules lets them rest no more."""

BAD_MOST = 4096
"""Runs that are remembered as not finite."""

CLOSE_S = 2.0


class Pipeline:
    """Owns the detection thread. Its public methods may be called from any thread."""

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
        self._queue: queue.SimpleQueue[Committed | None] = queue.SimpleQueue()
        self._bytes_in = self._bytes_out = 0
        """Of everything that came, and of what the rules have seen of it."""
        self._shown: dict[str, list[tuple[Committed, list[Points]]]] = {}
        """By run, the one that waits longest first: what the rules are still to see."""
        self._urgent: dict[str, None] = {}
        """Those of them whose values have just turned not finite, in order."""
        self._was_urgent = False
        self._bad: set[str] = set()
        """Runs whose newest records were not finite: of one that stays so nothing is urgent."""
        self._since: dict[str, float] = {}
        """Since when each of them waits; seconds of the monotonic clock."""
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
        self._queue.put(None)
        self._thread.join(timeout=2 * CLOSE_S)

    @property
    def behind(self) -> float:
        """Part of the room for what waits for the rules that is taken: 0 to about 1."""
        return (self._bytes_in - self._bytes_out) / BYTES_MAX

    def committed(self, committed: Committed) -> None:
        """Records that are on disk. Called by the intake's thread, in commit order."""
        while self._bytes_in - self._bytes_out > BYTES_MAX:
            if self._late():
                return
            time.sleep(FULL_S)
        self._bytes_in += _size(committed)
        self._queue.put(committed)

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
        while self._wait_for_some() and not self._late():
            began = time.monotonic()
            try:
                self._show_waiting()
                many = len(self._shown) >= MANY_RUNS
                self._judge_one()
                self._judge.save_when_due()
                self._judge.listen()
            except StoppedError:
                break  # judged at the next start
            except Exception:
                _log.exception("the pipeline failed on one run")
            else:
                if many:
                    self._rest(time.monotonic() - began)
        with suppress(StoreUnavailableError):
            self._judge.save()

    def _rest(self, took: float) -> None:
        """Leave the interpreter to others for a moment, unless a run waits for long already."""
        waited = time.monotonic() - next(iter(self._since.values()), math.inf)
        if waited < PATIENCE_S:
            time.sleep(min(REST_SHARE * took, REST_MOST_S))

    def _wait_for_some(self) -> bool:
        """Wait until there is something to do; False if there will be no more."""
        while not (self._shown or self._backlog) and not self._ended:
            try:
                self._take(self._queue.get(timeout=LISTEN_S))
            except queue.Empty:
                with suppress(StoreUnavailableError):
                    self._judge.save()
                    self._judge.listen()
        return bool(self._shown or self._backlog)

    def _show_waiting(self) -> None:
        """What has come, to tail and browsers; then it waits for the rules, by run."""
        size = 0
        while not self._ended and size < SHOWN_BYTES:
            try:
                size += self._take(self._queue.get_nowait())
            except queue.Empty:
                return

    def _take(self, item: Committed | None) -> int:
        if item is None:
            self._ended = True
            return 0
        tables: list[Points] = []
        urgent = False
        try:
            tables = self._show(item)
            urgent = self._turned(item.stream.run_id, any(map(_alarming, tables)))
        except Exception:
            _log.exception("the pipeline failed on one item")
        run_id = item.stream.run_id
        self._shown.setdefault(run_id, []).append((item, tables))
        self._since.setdefault(run_id, time.monotonic())
        if urgent:
            self._urgent.setdefault(run_id)
        return _size(item)

    def _turned(self, run_id: str, bad: bool) -> bool:
        """True if the values of a run were finite so far and are not now."""
        if not bad:
            self._bad.discard(run_id)
            return False
        if run_id in self._bad:
            return False
        if len(self._bad) >= BAD_MOST:
            self._bad.clear()
        self._bad.add(run_id)
        return True

    def _judge_one(self) -> None:
        """One run: what came from trainings before what an earlier server left."""
        if self._shown:
            run_id = self._next()
            shown = self._shown.pop(run_id)
            try:
                self._judge.learn(run_id, shown)
            finally:
                self._bytes_out += sum(_size(committed) for committed, _ in shown)
        elif self._backlog:
            self._judge.learn(self._backlog.popleft(), [])

    def _next(self) -> str:
        """A run that cannot wait and the one that waits longest, in turn."""
        self._was_urgent = bool(self._urgent) and not self._was_urgent
        run_id = next(iter(self._urgent if self._was_urgent else self._shown))
        self._urgent.pop(run_id, None)
        self._since.pop(run_id, None)
        return run_id

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


def _alarming(points: Points) -> bool:
    """True if a value that a training is watched for is not finite."""
    bad = ~np.isfinite(points.values).all(axis=1)
    return any(points.series[row].kind in WATCHED for row in np.flatnonzero(bad))


def _size(committed: Committed) -> int:
    """Bytes it takes while it waits, about."""
    tables = (one for one in committed.records if isinstance(one, Table))
    return ROW_BYTES + sum(len(one.values) for one in tables)
