"""The order of things after COMMIT: tail, live points, rules, findings, incidents, live incidents.

One thread of its own. What the rules know is saved every ten seconds; from there on it can be
rebuilt from the journal: findings have deterministic ids, so rules that see the same points again
add nothing.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import numpy as np
import structlog

from nanwatch.contract.frames import Mark, Record, Table
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import DERIVED_EPOCH, Finding, Incident, Run, Series, Stream
from nanwatch_server.domain.ports import CommandDesk, Store, UnitOfWork
from nanwatch_server.incidents.lifecycle import IncidentBook
from nanwatch_server.live.hub import Hub
from nanwatch_server.store.base import StoreUnavailableError
from nanwatch_server.store.replay import Committed, Points, joined, replay, tables_of
from nanwatch_server.store.tail import Tail

_log = structlog.get_logger()

QUEUE_MAX = 512
"""Journal rows between COMMIT and rules; when it is full, commits wait and credit falls."""

REBUILD_WITHIN_S = 86_400.0
"""At start, unfinished runs seen this recently are rebuilt; others when they come back."""

STATES_MAX = 512
"""Runs whose rules are in memory; the one unused for longest is rebuilt when it comes back."""

PLANS_MAX = 256
"""Different sets of series in the tables of one run, before they are worked out anew."""

JOIN_POINTS = 1 << 20
"""Points of the journal that the rules see at a time when they catch up."""

SAVE_S = 10.0
"""What the rules know is saved this often (design 7), large states less often."""

SAVE_SHARE = 0.02
"""…so that saving takes at most this part of the time."""

TOGETHER = 32
"""Journal rows that are judged together when many wait."""

NO_EPOCH = -2
CLOSE_S = 2.0
RETRY_S = 0.5

RATES = ("lr", "lr_scheduled")
REMIND_POINTS = 4_096
"""Newest points that are looked at for commands applied before a restart."""

SAFE = 1 << 62
"""Every journal row there will be."""

Note = Callable[[UnitOfWork, Incident], None]


class _StoppedError(Exception):
    """The server ends in the middle of catching up; nothing of it may be kept."""


class Listener(Protocol):
    """Told what browsers should see."""

    def incident(self, incident: Incident) -> None: ...
    def record(self, stream: Stream, record: Record) -> None: ...


@dataclass
class _State:
    """Rules and incidents of one run."""

    run: Run
    detector: RunDetector
    book: IncidentBook
    upto: int = 0
    """Journal row the rules have seen."""
    saved: int = 0
    """Journal row up to which that is on disk."""
    step: int = -1
    epoch: int = NO_EPOCH
    """Process whose points the rules saw last."""
    plans: dict[tuple[int, ...], list[_Plan]] = field(default_factory=dict)
    """By the ids of a table's series."""


@dataclass(frozen=True)
class _Plan:
    """Which rows of a table make the block of one scope."""

    scope: str
    stage: str
    scalars: dict[str, int]
    layers: dict[str, tuple[tuple[str, ...], slice | np.ndarray]]


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
    ) -> None:
        self._store, self._tail, self._hub, self._desk = store, tail, hub, desk
        self._listener, self._arrived, self._clock = listener, arrived, clock
        self._queue: queue.Queue[Committed | None] = queue.Queue(QUEUE_MAX)
        self._backlog: deque[str] = deque()
        self._stop_at = math.inf
        self._lock = threading.Lock()
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._save_at = 0.0
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="nanwatch-rules", daemon=True)

    def start(self) -> None:
        """Begin; rules of unfinished runs catch up with their journals while nothing else waits."""
        now = self._clock()
        for run in self._store.runs(limit=200)[0]:
            if run.ended_at is None and now - run.last_seen_at < REBUILD_WITHIN_S:
                self._backlog.append(run.id)
        self._thread.start()

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
        with self._lock:
            incident = self._store.incident(incident_id)
            if incident is None:
                return None
            changed = edit(incident)
            with self._store.write() as uow:
                uow.put_incident(changed)
                note(uow, changed)
            state = self._states.get(changed.run_id)
            if state is not None:
                state.book.replace(changed)
        self._listener.incident(changed)
        return changed

    # --- the thread ---------------------------------------------------------------------------

    def _late(self) -> bool:
        return time.monotonic() > self._stop_at

    def _run(self) -> None:
        while not self._ended and (item := self._next()) is not None and not self._late():
            try:
                if isinstance(item, str):
                    self._learn(item, [])
                else:
                    for alike in self._more(item):
                        shown = [(one, self._show(one)) for one in alike]
                        self._learn(alike[0].stream.run_id, shown)
                self._save_when_due()
            except _StoppedError:
                break  # judged at the next start
            except Exception:
                _log.exception("the pipeline failed on one item")
        with suppress(StoreUnavailableError):
            self._save()

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
                    self._save()

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

    def _learn(self, run_id: str, shown: list[tuple[Committed, list[Points]]]) -> None:
        """The rules see what was committed, whatever the database does meanwhile."""
        while not self._late():
            try:
                with self._lock:
                    state = self._state(run_id)
                    fresh = [one for one in shown if state and one[0].row > state.upto]
                    if state is not None and fresh:
                        self._judge(state, self._through(state, fresh))
                return
            except StoreUnavailableError as error:
                _log.error("findings cannot be written; trying again", error=str(error))
                with self._lock:  # the rules are ahead of what is stored: start from there again
                    self._states.pop(run_id, None)
                time.sleep(RETRY_S)

    def _state(self, run_id: str) -> _State | None:
        """The run's rules, rebuilt from the journal if they are not in memory."""
        state = self._states.get(run_id)
        if state is not None:
            self._states.move_to_end(run_id)
            return state
        run = self._store.run(run_id)
        if run is None:
            return None
        facts = {**run.facts, **run.config}
        stored = self._store.incidents(run_id=run_id)
        book = IncidentBook.restore(run_id, facts, stored[::-1], diagnose=diagnose)
        state = _State(run, RunDetector(run_id, facts), book)
        self._restore(state, facts)
        findings = self._through(state, self._since(state))
        if findings:
            self._judge(state, findings)
        self._states[run_id] = state
        if len(self._states) > STATES_MAX:
            self._states.popitem(last=False)
        return state

    # --- what the rules know, on disk ----------------------------------------------------------

    def safe_upto(self, run_id: str) -> int:
        """Journal row up to which the rules need the journal no more."""
        saved = self._store.rule_state(run_id)
        if saved is not None:
            return saved[0]
        run = self._store.run(run_id)
        asleep = run is None or self._clock() - run.last_seen_at >= REBUILD_WITHIN_S
        return SAFE if asleep and run_id not in self._states else 0

    def _save_when_due(self) -> None:
        if time.monotonic() >= self._save_at:
            self._save()

    def _save(self) -> None:
        started = time.monotonic()
        with self._lock:
            changed = [state for state in self._states.values() if state.upto > state.saved]
            for state in changed:
                known = {"step": state.step, "epoch": state.epoch, "rules": state.detector.state()}
                data = msgspec.msgpack.encode(known)
                with self._store.write() as uow:
                    uow.put_rule_state(state.run.id, state.upto, data, self._clock())
                state.saved = state.upto
        ended = time.monotonic()
        self._save_at = ended + max(SAVE_S, (ended - started) / SAVE_SHARE)

    def _restore(self, state: _State, facts: dict[str, str]) -> None:
        """Go on where an earlier server saved; from what the journal still has if that fails."""
        saved = self._store.rule_state(state.run.id)
        if saved is None:
            return
        try:
            known = msgspec.msgpack.decode(saved[1])
            state.detector = RunDetector.restore(state.run.id, facts, known["rules"])
            state.step, state.epoch = int(known["step"]), int(known.get("epoch", NO_EPOCH))
            state.upto = state.saved = saved[0]
        except Exception as error:
            _log.error("saved rules cannot be read", run=state.run.id, error=repr(error)[:300])
        self._remind(state.run.id)

    def _remind(self, run_id: str) -> None:
        """Commands that wait to be seen in the data may have been fulfilled before the restart."""
        if not any(c.state == "applied" for c in self._store.commands(run_id, open_only=True)):
            return
        scopes: dict[str, dict[str, int]] = {}
        for one in self._store.series_of(run_id):
            if one.kind in RATES and one.rank == 0 and one.stage == "train" and not one.layer:
                scopes.setdefault(one.scope, {})[one.kind] = one.id
        for scope, ids in scopes.items():
            found = {k: self._tail.newest(run_id, n, REMIND_POINTS) for k, n in ids.items()}
            if set(found) != set(RATES):
                continue
            if np.array_equal(found["lr"].steps, found["lr_scheduled"].steps):
                values = {kind: columns.values for kind, columns in found.items()}
                self._desk.observe(run_id, scope, found["lr"].steps, values)

    def _since(self, state: _State) -> Iterator[tuple[Committed, list[Points]]]:
        """What the journal holds beyond what the rules know."""
        for committed in replay(self._store, state.run.id, state.upto):
            if self._late():
                raise _StoppedError
            yield committed, tables_of(committed)

    def _through(
        self, state: _State, items: Iterable[tuple[Committed, list[Points]]]
    ) -> list[Finding]:
        """Through the rules, in few long tables: they do not mind the size."""
        found: list[Finding] = []
        held: list[Points] = []
        size = 0
        stream: Stream | None = None
        for committed, tables in items:
            state.upto = committed.row
            if committed.stream.rank != 0:
                if state.detector.ranks.listens(committed.stream.rank, tables):
                    found += self._update(state, joined(held), stream)
                    held, size = [], 0  # in the order in which it came
                    found += self._of_rank(state, committed.stream.rank, tables)
                continue
            marked = any(isinstance(record, Mark) for record in committed.records)
            if committed.stream != stream or marked or size >= JOIN_POINTS:
                found += self._update(state, joined(held), stream)
                held, size, stream = [], 0, committed.stream
            if marked:
                found += self._findings(state, committed, tables)
            else:
                held += tables
                size += sum(table.values.size for table in tables)
        return found + self._update(state, joined(held), stream)

    def _findings(self, state: _State, committed: Committed, tables: list[Points]) -> list[Finding]:
        """Points and marks through the rules, in order. Rank 0 speaks for the run."""
        if committed.stream.rank != 0:
            return self._of_rank(state, committed.stream.rank, tables)
        found: list[Finding] = []
        decoded = iter(tables)
        for record in committed.records:
            if isinstance(record, Mark):
                state.detector.mark(record.what, record.step, record.data)
            elif isinstance(record, Table):
                found += self._update(state, [next(decoded)], committed.stream)
        return found

    def _of_rank(self, state: _State, rank: int, tables: list[Points]) -> list[Finding]:
        """What another rank adds: values that are not finite, as far as they are earlier news."""
        found: list[Finding] = []
        for block in (block for points in tables for block in _blocks(state.plans, points)):
            try:
                found += state.detector.ranks.other(rank, block)
            except Exception:
                _log.exception("a rule failed", run=state.run.id, rank=rank, scope=block.scope)
        return found

    def _update(self, state: _State, tables: list[Points], stream: Stream | None) -> list[Finding]:
        found: list[Finding] = []
        late = stream is not None and stream.epoch == DERIVED_EPOCH
        for block in (block for points in tables for block in _blocks(state.plans, points)):
            block = replace(block, late=late) if late else block
            if stream is not None and not late:
                self._new_life(state, stream, int(block.steps[0]))
            state.step = max(state.step, int(block.steps[-1]))
            try:
                found += state.detector.update(block)
            except Exception:
                _log.exception("a rule failed", run=state.run.id, scope=block.scope)
            if "lr" in block.scalars:
                self._desk.observe(state.run.id, block.scope, block.steps, block.scalars)
        return found

    @staticmethod
    def _new_life(state: _State, stream: Stream, step: int) -> None:
        """A restarted training that makes old steps again: what it does now is not compared with
        what it did before."""
        if state.epoch not in (NO_EPOCH, stream.epoch) and step <= state.step:
            state.detector.mark("resume", step, {})
        state.epoch = stream.epoch

    def _judge(self, state: _State, findings: list[Finding]) -> None:
        """New findings into incidents, both in one transaction; then tell the browsers."""
        changed: list[Incident] = []
        if findings:
            with self._store.write() as uow:
                fresh = uow.add_findings(findings)
                changed = state.book.fold(fresh, state.step, self._clock())
                for incident in changed:
                    uow.put_incident(incident)
        elif changed := state.book.fold([], state.step, self._clock()):
            with self._store.write() as uow:
                for incident in changed:
                    uow.put_incident(incident)
        for incident in changed:
            self._listener.incident(incident)


def _blocks(plans: dict[tuple[int, ...], list[_Plan]], points: Points) -> list[Block]:
    """One block per scope and stage of the table; steps rising."""
    key = tuple(series.id for series in points.series)
    if key not in plans:
        if len(plans) >= PLANS_MAX:
            plans.clear()
        plans[key] = _plan(points.series)
    steps, times, values = points.steps, points.times, points.values
    if len(steps) > 1 and (np.diff(steps) < 0).any():
        order = np.argsort(steps, kind="stable")
        steps, times, values = steps[order], times[order], values[:, order]
    return [
        Block(
            plan.scope,
            plan.stage,
            steps,
            times,
            {kind: values[row] for kind, row in plan.scalars.items()},
            {kind: (names, values[rows]) for kind, (names, rows) in plan.layers.items()},
        )
        for plan in plans[key]
    ]


def _plan(series: tuple[Series, ...]) -> list[_Plan]:
    scopes: dict[tuple[str, str], tuple[dict, dict]] = {}
    for row, one in enumerate(series):
        scalars, layers = scopes.setdefault((one.scope, one.stage), ({}, {}))
        if one.layer:
            layers.setdefault(one.kind, []).append((one.layer, row))
        else:
            scalars[one.kind] = row
    return [
        _Plan(
            scope,
            stage,
            scalars,
            {
                kind: (tuple(name for name, _ in rows), _selection([row for _, row in rows]))
                for kind, rows in layers.items()
            },
        )
        for (scope, stage), (scalars, layers) in scopes.items()
    ]


def _selection(rows: list[int]) -> slice | np.ndarray:
    """These rows of a table; without a copy where they follow each other."""
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return np.array(rows)
