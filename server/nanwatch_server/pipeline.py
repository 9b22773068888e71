"""The order of things after COMMIT: tail, live points, rules, findings, incidents, live incidents.

One thread of its own. What it keeps in memory can be rebuilt from the journal: findings have
deterministic ids, so rules that see the same points again add nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import structlog

from nanwatch.contract.frames import Mark, Record, Table
from nanwatch_server.detect.block import Block
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import Finding, Incident, Run, Series
from nanwatch_server.domain.ports import CommandDesk, Store
from nanwatch_server.incidents.lifecycle import IncidentBook
from nanwatch_server.live.hub import Hub
from nanwatch_server.store.replay import Committed, Points, points_of, replay
from nanwatch_server.store.tail import Tail

_log = structlog.get_logger()

QUEUE_MAX = 512
"""Journal rows between COMMIT and rules; when it is full, commits wait and credit falls."""

REBUILD_WITHIN_S = 86_400.0
"""At start, unfinished runs seen this recently are rebuilt; others when they come back."""

STATES_MAX = 512
"""Runs whose rules are in memory; the one unused for longest is rebuilt when it comes back."""


class Listener(Protocol):
    """Told what browsers should see."""

    def incident(self, incident: Incident) -> None: ...
    def record(self, run_id: str, record: Record) -> None: ...


@dataclass
class _State:
    """Rules and incidents of one run."""

    run: Run
    detector: RunDetector
    book: IncidentBook
    upto: int = 0
    """Journal row the rules have seen."""
    step: int = -1
    plans: dict[tuple[Series, ...], list[_Plan]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    """Which rows of a table make the block of one scope."""

    scope: str
    stage: str
    scalars: dict[str, int]
    layers: dict[str, tuple[tuple[str, ...], np.ndarray]]


class Pipeline:
    """Owns the detection thread. `change` may be called from any thread."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        hub: Hub,
        desk: CommandDesk,
        listener: Listener,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._tail, self._hub, self._desk = store, tail, hub, desk
        self._listener, self._clock = listener, clock
        self._queue: queue.Queue[Committed | str | None] = queue.Queue(QUEUE_MAX)
        self._lock = threading.Lock()
        self._states: OrderedDict[str, _State] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="nanwatch-rules", daemon=True)

    def start(self) -> None:
        """Begin; rules of unfinished runs catch up with their journals first."""
        self._thread.start()
        for run in self._store.runs(limit=200)[0]:
            if run.ended_at is None and self._clock() - run.last_seen_at < REBUILD_WITHIN_S:
                self._queue.put(run.id)

    def close(self) -> None:
        """Handle what is queued, then stop."""
        self._queue.put(None)
        self._thread.join(timeout=10.0)

    def committed(self, committed: Committed) -> None:
        """Records that are on disk. Called by the intake's thread, in commit order."""
        self._queue.put(committed)

    def change(self, incident_id: str, edit: Callable[[Incident], Incident]) -> Incident | None:
        """A person's change of an incident; None if there is no such incident."""
        with self._lock:
            incident = self._store.incident(incident_id)
            if incident is None:
                return None
            changed = edit(incident)
            with self._store.write() as uow:
                uow.put_incident(changed)
            state = self._states.get(changed.run_id)
            if state is not None:
                state.book.replace(changed)
        self._listener.incident(changed)
        return changed

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                with self._lock:
                    if isinstance(item, str):
                        self._state(item)
                    else:
                        self._handle(item)
            except Exception:
                _log.exception("the pipeline failed on one item")

    def _handle(self, committed: Committed) -> None:
        run_id = committed.stream.run_id
        tables = [
            points_of(record, committed.series)
            for record in committed.records
            if isinstance(record, Table)
        ]
        if tables:
            self._tail.append(run_id, committed.row, tables)
        for points in tables:
            ids = [series.id for series in points.series]
            self._hub.points(run_id, ids, points.steps, points.times, points.values)
        for record in committed.records:
            if not isinstance(record, Table):
                self._listener.record(run_id, record)
        state = self._state(run_id)
        if state is not None and committed.row > state.upto:
            self._judge(state, self._findings(state, committed, tables))

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
        state = self._states[run_id] = _State(run, RunDetector(run_id, facts), book)
        if len(self._states) > STATES_MAX:
            self._states.popitem(last=False)
        findings: list[Finding] = []
        for committed in replay(self._store, run_id):
            findings += self._findings(state, committed, None)
        if findings:
            self._judge(state, findings)
        return state

    def _findings(
        self, state: _State, committed: Committed, tables: list[Points] | None
    ) -> list[Finding]:
        """Points and marks through the rules, in order. Rank 0 speaks for the run."""
        state.upto = committed.row
        if committed.stream.rank != 0:
            return []
        found: list[Finding] = []
        decoded = iter(tables) if tables is not None else None
        for record in committed.records:
            if isinstance(record, Mark):
                state.detector.mark(record.what, record.step, record.data)
                if record.what == "config":
                    # What the run found out about itself (recurrent layers, scopes) is a reason
                    # for a diagnosis, too.
                    state.book.facts.update(record.data)
            elif isinstance(record, Table):
                points = next(decoded) if decoded else points_of(record, committed.series)
                found += self._update(state, points, live=tables is not None)
        return found

    def _update(self, state: _State, points: Points, live: bool) -> list[Finding]:
        found: list[Finding] = []
        for block in _blocks(state.plans, points):
            if len(block):
                state.step = max(state.step, int(block.steps[-1]))
            try:
                found += state.detector.update(block)
            except Exception:
                _log.exception("a rule failed", run=state.run.id, scope=block.scope)
            if live and "lr" in block.scalars:
                self._desk.observe(state.run.id, block.scope, block.steps, block.scalars)
        return found

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


def _blocks(plans: dict[tuple[Series, ...], list[_Plan]], points: Points) -> list[Block]:
    """One block per scope and stage of the table; steps rising."""
    if points.series not in plans:
        plans[points.series] = _plan(points.series)
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
        for plan in plans[points.series]
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
                kind: (tuple(name for name, _ in rows), np.array([row for _, row in rows]))
                for kind, rows in layers.items()
            },
        )
        for (scope, stage), (scalars, layers) in scopes.items()
    ]
