"""Rules and incidents of every run: what was committed goes through them, and they are saved.

What the rules know is saved every ten seconds; from there on it can be rebuilt from the journal:
findings have deterministic ids, so rules that see the same points again add nothing. Called by
`thread`; `change` and `safe_upto` may be called from any thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec
import numpy as np
import structlog

from nanwatch.contract.frames import Mark, Record, Table
from nanwatch_server.detect.engine import RunDetector
from nanwatch_server.diagnose.config_lint import lint
from nanwatch_server.diagnose.syndromes import diagnose
from nanwatch_server.domain.models import DERIVED_EPOCH, Finding, Incident, Run, Stream
from nanwatch_server.domain.ports import CommandDesk, Store, UnitOfWork
from nanwatch_server.incidents.lifecycle import IncidentBook
from nanwatch_server.pipeline.blocks import Plan, blocks_of
from nanwatch_server.pipeline.rulebook import EVERY
from nanwatch_server.store.base import RunRemovedError, StoreUnavailableError
from nanwatch_server.store.replay import Committed, Points, joined, replay, tables_of
from nanwatch_server.store.tail import Tail

_log = structlog.get_logger()

REBUILD_WITHIN_S = 86_400.0
"""At start, unfinished runs seen this recently are rebuilt; others when they come back."""

STATES_MAX = 512
"""Runs whose rules are in memory; the one unused for longest is rebuilt when it comes back."""

JOIN_POINTS = 1 << 20
"""Points of the journal that the rules see at a time when they catch up."""

SAVE_S = 10.0
"""What the rules know is saved this often (design 7), large states less often."""

SAVE_CROWDED_S = 1.0
"""…or this often while points fill memory: they can be compacted only up to what is saved."""

SAVE_SHARE = 0.02
"""…so that saving takes at most this part of the time."""

SAVE_BYTES = 1 << 20
"""States that are saved in one transaction, about: commits of trainings wait for it."""

SAVE_ROUND_S = 1.0
"""Due states are looked for this often."""

LISTEN_S = 5.0
"""Silence shorter than this needs no thought."""

NO_EPOCH = -2
RETRY_S = 0.5

RATES = ("lr", "lr_scheduled")
REMIND_POINTS = 4_096
"""Newest points that are looked at for commands applied before a restart."""

SAFE = 1 << 62
"""Every journal row there will be."""

Note = Callable[[UnitOfWork, Incident], None]
"""Called in the transaction that stores an incident."""


class StoppedError(Exception):
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
    saved_at: float = field(default_factory=time.monotonic)
    step: int = -1
    epoch: int = NO_EPOCH
    """Process whose points the rules saw last."""
    plans: dict[tuple[int, ...], list[Plan]] = field(default_factory=dict)
    """By the ids of a table's series."""
    told: set[str] = field(default_factory=set)
    """Remarks on the configuration that were made."""
    heard_at: float = math.inf
    """Server's clock when the newest points were judged."""

    def remarks(self, step: int, time: float) -> list[Finding]:
        """What the configuration lets expect, each once."""
        found = lint(self.run.id, self.detector.context.facts, step, time)
        fresh = [remark for remark in found if remark.layer not in self.told]
        self.told.update(remark.layer for remark in fresh)
        return fresh


class Judge:
    """Rules and incidents of the runs in memory. `late` is true once the server is to end."""

    def __init__(
        self,
        store: Store,
        tail: Tail,
        desk: CommandDesk,
        listener: Listener,
        clock: Callable[[], float],
        late: Callable[[], bool],
        announce: Note = lambda uow, incident: None,
        limits: Callable[[str], dict[str, dict[str, Any]]] = lambda project: {},
    ) -> None:
        self._store, self._tail, self._desk, self._listener = store, tail, desk, listener
        self._limits = limits
        self._clock, self._late, self._announce = clock, late, announce
        self._lock = threading.Lock()
        self.states: OrderedDict[str, _State] = OrderedDict()
        """By run, the one unused for longest first."""
        self._save_at = self._listen_at = 0.0

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
                self._put(uow, changed)
                note(uow, changed)
            state = self.states.get(changed.run_id)
            if state is not None:
                state.book.replace(changed)
        self._listener.incident(changed)
        return changed

    def learn(self, run_id: str, shown: list[tuple[Committed, list[Points]]]) -> None:
        """The rules see what was committed, whatever the database does meanwhile."""
        while not self._late():
            try:
                with self._lock:
                    state = self._state(run_id, shown[0][0].row if shown else None)
                    fresh = [one for one in shown if state and one[0].row > state.upto]
                    if state is not None and fresh:
                        self._judge(state, self._through(state, fresh))
                return
            except RunRemovedError:
                self.forget(run_id)
                return
            except StoreUnavailableError as error:
                _log.error("findings cannot be written; trying again", error=str(error))
                with self._lock:  # the rules are ahead of what is stored: start from there again
                    self.states.pop(run_id, None)
                time.sleep(RETRY_S)

    def listen(self) -> None:
        """Runs that have fallen silent: what that means, now and then."""
        if time.monotonic() < self._listen_at:
            return
        self._listen_at, now = time.monotonic() + LISTEN_S, self._clock()
        with self._lock:
            for run_id, state in list(self.states.items()):
                silence = now - state.heard_at
                if not silence >= LISTEN_S:
                    continue
                until = state.detector.stall.last + silence
                found = state.detector.quiet_until(until, live=True)
                if found and (run := self._store.run(run_id)) and run.ended_at is None:
                    self._judge(state, found)

    def coverage(self, run_id: str) -> list[dict[str, Any]]:
        """Which rules ran on how many records, and why others could not."""
        with self._lock:
            if (state := self.states.get(run_id)) is not None:
                return state.detector.coverage()
        run, saved = self._store.run(run_id), self._store.rule_state(run_id)
        if run is None or saved is None:
            return []
        facts = {**run.facts, **run.config}
        try:
            known = msgspec.msgpack.decode(saved[1])["rules"]
            return RunDetector.restore(run_id, facts, known, self._limits(run.project)).coverage()
        except Exception as error:
            _log.error("saved rules cannot be read", run=run_id, error=repr(error)[:300])
            return []

    def limits_changed(self, project: str) -> None:
        """Runs of the project go on under their new limits, from where their rules stand."""
        self.save()
        with self._lock:
            known = self.states.items()
            for run_id in [r for r, s in known if project in (EVERY, s.run.project)]:
                del self.states[run_id]

    def forget(self, run_id: str) -> None:
        """The run was deleted: nothing of it is judged or saved any more."""
        with self._lock:
            self.states.pop(run_id, None)

    def _state(self, run_id: str, before: int | None) -> _State | None:
        """The run's rules, rebuilt from the journal if they are not in memory.

        `before`: a journal row at hand, so that it and what follows need not be read.
        """
        state = self.states.get(run_id)
        if state is not None:
            self.states.move_to_end(run_id)
            return state
        run = self._store.run(run_id)
        if run is None:
            return None
        facts = {**run.facts, **run.config}
        stored = self._store.incidents(run_id=run_id)
        book = IncidentBook.restore(run_id, facts, stored[::-1], diagnose=diagnose)
        state = _State(run, RunDetector(run_id, facts, self._limits(run.project)), book)
        self._restore(state, facts)
        book.facts = state.detector.context.facts  # what marks tell later is for the diagnosis too
        state.detector.on_failure = lambda rule, error: _log.error(
            "a rule failed and begins anew", run=run_id, rule=rule, error=repr(error)[:300]
        )
        findings = state.remarks(0, run.started_at)
        findings += self._through(state, self._since(state, before))
        if findings:
            self._judge(state, findings)
        self.states[run_id] = state
        if len(self.states) > STATES_MAX:
            self.states.popitem(last=False)
        return state

    # --- what the rules know, on disk ----------------------------------------------------------

    def safe_upto(self, run_id: str) -> int:
        """Journal row up to which the rules need the journal no more."""
        saved = self._store.rule_state(run_id)
        if saved is not None:
            return saved[0]
        run = self._store.run(run_id)
        asleep = run is None or self._clock() - run.last_seen_at >= REBUILD_WITHIN_S
        return SAFE if asleep and run_id not in self.states else 0

    def save_when_due(self) -> None:
        """Save some of the states that were not saved for a while."""
        after_s = SAVE_CROWDED_S if self._tail.crowded else SAVE_S
        started = time.monotonic()
        if started < self._save_at:
            return
        with self._lock:
            due = [one for one in self.states.values() if one.upto > one.saved]
            due = [one for one in due if started - one.saved_at >= after_s]
            left = self._save_some(sorted(due, key=lambda one: one.saved_at))
        ended = time.monotonic()
        wait = (ended - started) / SAVE_SHARE if due else 0.0
        self._save_at = ended + max(wait, 0.0 if left else SAVE_ROUND_S)

    def save(self) -> None:
        """Save all that changed."""
        with self._lock:
            left = [one for one in self.states.values() if one.upto > one.saved]
            while left:
                left = self._save_some(left)

    def _save_some(self, states: list[_State]) -> list[_State]:
        """Save as many as go into one transaction; the others."""
        saved: list[tuple[_State, bytes]] = []
        size = 0
        while states and size < SAVE_BYTES:
            state, *states = states
            known = {"step": state.step, "epoch": state.epoch, "rules": state.detector.state()}
            data = msgspec.msgpack.encode(known)
            size += len(data)
            saved.append((state, data))
        with self._store.write(bulk=True) as uow:
            for state, data in saved:
                try:
                    uow.put_rule_state(state.run.id, state.upto, data, self._clock())
                except RunRemovedError:
                    self.states.pop(state.run.id, None)
        now = time.monotonic()
        for state, _ in saved:
            state.saved, state.saved_at = state.upto, now
        return states

    def _restore(self, state: _State, facts: dict[str, str]) -> None:
        """Go on where an earlier server saved; from what the journal still has if that fails."""
        saved = self._store.rule_state(state.run.id)
        if saved is None:
            return
        try:
            known = msgspec.msgpack.decode(saved[1])
            state.detector = RunDetector.restore(
                state.run.id, facts, known["rules"], self._limits(state.run.project)
            )
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

    def _since(self, state: _State, before: int | None) -> Iterator[tuple[Committed, list[Points]]]:
        """What the journal holds beyond what the rules know."""
        for committed in replay(self._store, state.run.id, state.upto, before):
            if self._late():
                raise StoppedError
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
                told = record.what, record.step, record.data, record.time, record.text
                found += state.detector.mark(*told)
                if record.what == "config":
                    found += state.remarks(record.step, record.time)
            elif isinstance(record, Table):
                found += self._update(state, [next(decoded)], committed.stream)
        return found

    def _of_rank(self, state: _State, rank: int, tables: list[Points]) -> list[Finding]:
        """What another rank adds: values that are not finite, as far as they are earlier news."""
        found: list[Finding] = []
        for block in (block for points in tables for block in blocks_of(state.plans, points)):
            try:
                found += state.detector.ranks.other(rank, block)
            except Exception:
                _log.exception("a rule failed", run=state.run.id, rank=rank, scope=block.scope)
        return found

    def _update(self, state: _State, tables: list[Points], stream: Stream | None) -> list[Finding]:
        late = stream is not None and stream.epoch == DERIVED_EPOCH
        blocks = [block for points in tables for block in blocks_of(state.plans, points)]
        if not blocks:
            return []
        if late:
            blocks = [replace(block, late=True) for block in blocks]
        elif stream is not None:
            self._new_life(state, stream, min(int(block.steps[0]) for block in blocks))
        state.step = max(state.step, *(int(block.steps[-1]) for block in blocks))
        state.heard_at = self._clock()
        found: list[Finding] = []
        try:
            found = state.detector.feed(blocks)
        except Exception:
            _log.exception("a rule failed", run=state.run.id)
        for block in blocks:
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
                    self._put(uow, incident)
        elif changed := state.book.fold([], state.step, self._clock()):
            with self._store.write() as uow:
                for incident in changed:
                    self._put(uow, incident)
        for incident in changed:
            self._listener.incident(incident)

    def _put(self, uow: UnitOfWork, incident: Incident) -> None:
        """The incident and what is to be said of it: both or none."""
        uow.put_incident(incident)
        self._announce(uow, incident)
