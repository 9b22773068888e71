"""Puts gradient norms of sharded trainings together: each rank sends its part, the run has one.

A combined point is written as a journal row of its own, in the very transaction of the part that
completes it: so it exists exactly once, and whatever reads the journal knows it. What waits for
other ranks is in memory only; after a restart or a failed transaction it is read back from the
journal. Called by `connection` on the intake's thread; no other thread comes here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from nanwatch.contract.frames import Batch, SeriesDecl, Table
from nanwatch.contract.limits import BATCH_RECORDS_MAX, SERIES_PER_RUN_MAX
from nanwatch_server.domain.models import DERIVED_EPOCH, Series, Stream
from nanwatch_server.domain.ports import Store, UnitOfWork
from nanwatch_server.store.replay import Committed, Points, replay, tables_of

WHOLE = {"grad_norm_shard": "grad_norm", "grad_norm_shard_layer": "grad_norm_layer"}
"""Kind of a rank's part → kind of the whole."""

STEPS_MAX = 16_384
"""Steps of a run that wait for the parts of other ranks; the oldest is given up."""

VALUES_MAX = 1 << 21
"""Values of a run that wait, whatever the number of their steps: 25 MB."""

BOOK_VALUES_MAX = 1 << 23
"""Values of all runs that wait. Runs unused for longest are read again when they come back."""

RUNS_MAX = 64
TELL_S = 60.0
"""What was given up is written down this often."""

Key = tuple[int, int, int]
"""(world, generation, step)."""
Name = tuple[str, str, str, str]
"""(stage, scope, kind, layer) of a whole."""


@dataclass(slots=True)
class _Waiting:
    """Parts of one step."""

    values: np.ndarray
    counts: np.ndarray
    times: float = 0.0
    seen: set[tuple[int, int]] = field(default_factory=set)
    """(rank, first slot) of every table that is in it."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What has just become complete: values of some series at one step."""

    step: int
    time: float
    slots: tuple[int, ...]
    values: np.ndarray


class Combiner:
    """Parts of one run. Pure: the same parts in the same order give the same wholes, bit by bit."""

    def __init__(self) -> None:
        self.names: list[Name] = []
        self.series: dict[int, Series] = {}
        """The wholes' series by slot, as far as they are declared."""
        self._slots: dict[Name, int] = {}
        self._waiting: OrderedDict[Key, _Waiting] = OrderedDict()
        self.held = 0
        """Values that wait, about: room for them is made when a step begins to wait."""
        self.given_up = 0
        """Values that waited for ranks which came too late; nobody has been told of them yet."""
        self.told_at = -TELL_S

    def slot(self, name: Name) -> int:
        """Number of a whole; given when first asked for."""
        if name not in self._slots:
            self._slots[name] = len(self.names)
            self.names.append(name)
        return self._slots[name]

    def add(self, rank: int, world: int, generation: int, points: Points) -> list[Whole]:
        """Take the parts in a table of one rank; what they complete."""
        rows = [row for row, series in enumerate(points.series) if self._has_room(series)]
        if not rows or not len(points.steps):
            return []
        slots = np.array([self.slot(_name(points.series[row])) for row in rows])
        parts = points.values[rows]
        found: list[Whole] = []
        for column, (step, time) in enumerate(zip(points.steps, points.times, strict=True)):
            key = (world, generation, int(step))
            waiting = self._at(key, slots)
            mine = (rank, int(slots[0]))
            if mine in waiting.seen:  # a second life of the training: what is old is void
                waiting.seen = {one for one in waiting.seen if one[1] != mine[1]}
                waiting.values[slots], waiting.counts[slots] = 0.0, 0
            waiting.seen.add(mine)
            waiting.times = max(waiting.times, float(time))
            waiting.values[slots] = _joined(waiting.values[slots], parts[:, column])
            waiting.counts[slots] += 1
            done = slots[waiting.counts[slots] == world]
            if len(done):
                values = waiting.values[done].copy()
                found.append(Whole(int(step), waiting.times, tuple(done.tolist()), values))
                waiting.counts[done] = 0
                waiting.values[done] = 0.0
                waiting.seen = {one for one in waiting.seen if waiting.counts[one[1]]}
                if not waiting.counts.any():
                    self.held -= len(waiting.values)
                    del self._waiting[key]
            self._shrink()
        return found

    def _has_room(self, series: Series) -> bool:
        """True for a part of a whole that is known or may still be numbered."""
        if series.kind not in WHOLE:
            return False
        return len(self.names) < SERIES_PER_RUN_MAX or _name(series) in self._slots

    def _shrink(self) -> None:
        while len(self._waiting) > STEPS_MAX or (self.held > VALUES_MAX and len(self._waiting) > 1):
            waiting = self._waiting.popitem(last=False)[1]
            self.held -= len(waiting.values)
            self.given_up += int(np.count_nonzero(waiting.counts))

    def _at(self, key: Key, slots: np.ndarray) -> _Waiting:
        waiting = self._waiting.get(key)
        if waiting is None:
            size = len(self.names)
            waiting = self._waiting[key] = _Waiting(np.zeros(size), np.zeros(size, np.int32))
            self.held += size
        if len(waiting.values) <= slots.max():
            more = len(self.names) - len(waiting.values)
            waiting.values = np.append(waiting.values, np.zeros(more))
            waiting.counts = np.append(waiting.counts, np.zeros(more, np.int32))
            self.held += more
        return waiting


def _name(series: Series) -> Name:
    return series.stage, series.scope, WHOLE[series.kind], series.layer


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root of the sum of squares without overflow; NaN wins over infinity."""
    bad = np.isnan(one) | np.isnan(other)
    return np.where(bad, np.nan, np.hypot(one, other))


class ShardBook:
    """Combiners of the runs whose parts arrive."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: OrderedDict[str, Combiner] = OrderedDict()
        self._open: UnitOfWork | None = None
        self._touched: set[str] = set()

    def combine(
        self,
        uow: UnitOfWork,
        stream: Stream,
        group: tuple[int, int],
        tables: Sequence[Points],
        now: float,
    ) -> list[Committed]:
        """Write what these parts complete; `group` is (world size, generation) of the stream."""
        if not any(series.kind in WHOLE for points in tables for series in points.series):
            return []
        combiner = self._of(uow, stream.run_id)
        wholes = [whole for points in tables for whole in combiner.add(stream.rank, *group, points)]
        derived = Stream(run_id=stream.run_id, rank=0, epoch=DERIVED_EPOCH)
        self._tell(uow, derived, combiner, now)
        if not wholes:
            return []
        if len(combiner.series) < len(combiner.names):
            names = enumerate(combiner.names)
            combiner.series = uow.declare(derived, [_declaration(n, name) for n, name in names])
        return [
            self._write(uow, derived, combiner.series, records, now)
            for records in _batches(_tables(wholes))
        ]

    def settled(self, uow: UnitOfWork | None) -> None:
        """This transaction is committed; another one, not yet known to be lost, stays open."""
        if uow is not None and self._open is uow:
            self._open = None
            self._touched.clear()

    def _of(self, uow: UnitOfWork, run_id: str) -> Combiner:
        if self._open is not None and self._open is not uow:
            for touched in self._touched:  # that transaction was rolled back
                self._runs.pop(touched, None)
            self._touched.clear()
        self._open = uow
        self._touched.add(run_id)
        if run_id not in self._runs:
            self._runs[run_id] = self._rebuilt(run_id)
        self._runs.move_to_end(run_id)
        while len(self._runs) > 1 and (
            len(self._runs) > RUNS_MAX
            or sum(one.held for one in self._runs.values()) > BOOK_VALUES_MAX
        ):
            self._runs.popitem(last=False)
        return self._runs[run_id]

    @staticmethod
    def _tell(uow: UnitOfWork, derived: Stream, combiner: Combiner, now: float) -> None:
        """Values that will never be put together are counted, like everything that is dropped."""
        if combiner.given_up and now - combiner.told_at >= TELL_S:
            next_one = uow.high_water(derived, "scalars") + 1  # no number is passed over
            lost = combiner.given_up
            uow.add_gap(
                derived, "scalars", next_one, next_one - 1, "ranks too far apart", lost, now
            )
            combiner.given_up, combiner.told_at = 0, now

    def _rebuilt(self, run_id: str) -> Combiner:
        """From the journal: everything it completes was written then."""
        combiner = Combiner()
        derived = Stream(run_id=run_id, rank=0, epoch=DERIVED_EPOCH)
        combiner.series = dict(sorted(self._store.declarations(derived).items()))
        for one in combiner.series.values():
            combiner.slot((one.stage, one.scope, one.kind, one.layer))
        groups = self._store.groups(run_id)
        for committed in replay(self._store, run_id):
            world, generation = groups.get(committed.stream, (1, 0))
            if world > 1 and committed.stream.epoch != DERIVED_EPOCH:
                for points in tables_of(committed):
                    combiner.add(committed.stream.rank, world, generation, points)
        combiner.given_up = 0  # counted when it happened
        return combiner

    def _write(
        self,
        uow: UnitOfWork,
        derived: Stream,
        series: dict[int, Series],
        records: list[Table],
        now: float,
    ) -> Committed:
        first = uow.high_water(derived, "scalars") + 1
        last = first + len(records) - 1
        frame = msgspec.msgpack.encode(Batch(lane="scalars", first=first, records=list(records)))
        row = uow.append_journal(derived, "scalars", first, last, frame, now)
        uow.set_high_water(derived, "scalars", last)
        return Committed(row, derived, "scalars", list(records), series)


def _declaration(number: int, name: Name) -> SeriesDecl:
    stage, scope, kind, layer = name
    return SeriesDecl(number, kind, scope, layer, stage)


def _tables(wholes: Sequence[Whole]) -> list[Table]:
    """Neighbours with the same series become one table."""
    groups: list[list[Whole]] = []
    for whole in wholes:
        if groups and groups[-1][0].slots == whole.slots:
            groups[-1].append(whole)
        else:
            groups.append([whole])
    return [
        Table(
            ids=list(group[0].slots),
            steps=np.array([one.step for one in group], "<i8").tobytes(),
            times=np.array([one.time for one in group], "<f8").tobytes(),
            values=np.ascontiguousarray(
                np.stack([one.values for one in group], axis=1), "<f8"
            ).tobytes(),
        )
        for group in groups
    ]


def _batches(tables: list[Table]) -> list[list[Table]]:
    return [
        tables[low : low + BATCH_RECORDS_MAX] for low in range(0, len(tables), BATCH_RECORDS_MAX)
    ]
