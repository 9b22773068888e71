"""One connection of one rank: sequence numbers, jobs for the intake, frames back to the client.

The gateway reads the socket and calls in here; what is done after COMMIT runs on the intake's
thread, so everything sent back goes through `send`, which any thread may call.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import structlog

from nanwatch.contract import limits
from nanwatch.contract.frames import (
    LANES,
    Ack,
    Batch,
    Bye,
    CheckpointSaved,
    CommandResult,
    Declare,
    Forensics,
    Gap,
    Hello,
    Mark,
    NonFinite,
    Problem,
    Record,
    Reject,
    ServerFrame,
    Slow,
    Table,
)
from nanwatch_server.domain.models import Checkpoint, Coverage, RunMark, Series, Stream
from nanwatch_server.domain.ports import CommandDesk, UnitOfWork
from nanwatch_server.ingest import checks, ending
from nanwatch_server.ingest.intake import BUSY_JOBS, Intake, Job
from nanwatch_server.ingest.outbox import Outbox, Postbox
from nanwatch_server.ingest.shards import ShardBook
from nanwatch_server.store.replay import Committed, tables_of

_log = structlog.get_logger()

BYTES_WAITING_MAX = 8 << 20
"""Bytes a client may have between socket and COMMIT before we stop reading from it."""

SEEN_EVERY_S = 1.0
"""Batches write down how far their run is this often, and its end does; a restarted server learns
it from there."""

JOB_BYTES = 1024
"""About what a job costs besides its frame."""
CHECKED_AT_ONCE = 64
"""Records that are checked in the event loop; longer batches are checked in a thread."""

_REPORTS = {NonFinite: "nonfinite", Forensics: "forensics", Problem: "problem"}


class ProtocolError(Exception):
    """The connection is closed with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Connection:
    """Implements `domain.ports.RunSession`."""

    def __init__(
        self,
        hello: Hello,
        *,
        intake: Intake,
        desk: CommandDesk,
        committed: Callable[[Committed], None],
        clock: Callable[[], float] = time.time,
        shards: ShardBook | None = None,
        postbox: Postbox | None = None,
    ) -> None:
        self._shards = shards if hello.world > 1 else None
        self.stream = Stream(run_id=hello.run.id, rank=hello.rank, epoch=hello.epoch)
        self.hello = hello
        self.live = False
        """False: an older process that only hands in what it still holds."""
        self.outbox = Outbox()
        self._post = postbox or Postbox(asyncio.get_running_loop())
        self._room = asyncio.Event()
        self._room.set()
        self._intake, self._desk, self._committed = intake, desk, committed
        self._clock = clock
        self._next: dict[str, int] = dict.fromkeys(LANES, 0)
        """Sequence number that the next batch may begin with, at most."""
        self._declared: set[int] = set()
        self._series: dict[int, Series] = {}
        self._waiting = 0
        self._touching = False
        self._seen_at = -math.inf
        self.last_step = -1

    @property
    def run_id(self) -> str:
        """The run."""
        return self.stream.run_id

    @property
    def epoch(self) -> int:
        """The process lifetime."""
        return self.stream.epoch

    # --- to the client ------------------------------------------------------------------------

    def send(self, frame: ServerFrame) -> None:
        """Queue a frame for the client. Safe from any thread; dropped if it has gone."""
        self._post.send(self.outbox.put, frame)

    def shut(self, code: int, reason: str) -> None:
        """Close the connection after what is queued. Safe from any thread."""
        self._post.send(self.outbox.put, (code, reason))

    def credit(self) -> int:
        """Batches the client may have in flight now."""
        depth = self._intake.depth
        return limits.CREDIT_BATCHES if depth < BUSY_JOBS // 4 else 8 if depth < BUSY_JOBS else 2

    # --- from the client ----------------------------------------------------------------------

    def resume(self, high: dict[str, int], series: dict[int, Series]) -> None:
        """Begin behind what is stored."""
        self._next = {lane: upto + 1 for lane, upto in high.items()}
        self._series = dict(series)
        self._declared = set(series)

    async def room(self) -> None:
        """Wait until this client has little enough between socket and COMMIT."""
        await self._room.wait()

    def declare(self, frame: Declare) -> None:
        """Series ids of the batches to come."""
        fresh = [decl for decl in frame.series if decl.id not in self._declared]
        decls = checks.usable_declarations(fresh, len(self._declared))
        if not decls:
            return
        self._declared.update(decl.id for decl in decls)

        def write(uow: UnitOfWork) -> None:
            self._series.update(uow.declare(self.stream, checks.tidy_declarations(decls)))

        def failed(error: Exception) -> None:
            self.shut(limits.CLOSE_PROTOCOL, f"declarations refused: {error}"[:120])

        self._submit(write, lambda _: None, failed, 64 * len(decls))

    async def batch(self, batch: Batch, frame: bytes) -> None:
        """Records to store."""
        problem = checks.batch_problem(batch.lane, batch.first, len(batch.records))
        self._in_order(batch.lane, batch.first, problem)
        if len(batch.records) > CHECKED_AT_ONCE:  # many small ones would hold everybody up
            bad = await asyncio.to_thread(checks.bad_records, batch, self._declared)
        else:
            bad = checks.bad_records(batch, self._declared)
        end = batch.first + len(batch.records)
        self._next[batch.lane] = max(self._next[batch.lane], end)
        pieces: list[tuple[int, Callable[[], None]]] = [
            (part.first, partial(self._store, part, data))
            for part, data in checks.good_parts(batch, frame, bad)
        ]
        pieces += [(one.seq, partial(self._refuse, batch.lane, one)) for one in bad]
        for _, do in sorted(pieces, key=lambda piece: piece[0]):
            do()

    async def loose(self, loose: checks.Loose) -> None:
        """A batch with records that are not of wire v1: the others are stored."""
        problem = checks.batch_problem(loose.lane, loose.first, len(loose.records))
        self._in_order(loose.lane, loose.first, problem)
        for seq, record in enumerate(loose.records, loose.first):
            self._next[loose.lane] = max(self._next[loose.lane], seq + 1)
            if isinstance(record, checks.Bad):
                self._refuse(loose.lane, record)
            else:
                single = Batch(lane=loose.lane, first=seq, records=[record])  # type: ignore[arg-type]
                await self.batch(single, msgspec.msgpack.encode(single))

    def gap(self, frame: Gap) -> None:
        """Records that will never come."""
        ordered = 0 <= frame.first <= frame.last <= checks.SEQ_MAX and frame.points >= 0
        problem = None if ordered else "expected a gap from first to last"
        self._in_order(frame.lane, frame.first, problem)
        self._next[frame.lane] = max(self._next[frame.lane], frame.last + 1)
        points = min(frame.points, checks.SEQ_MAX)
        self._pass_over(frame.lane, frame.first, frame.last, frame.reason[:200], points)

    def bye(self, frame: Bye) -> None:
        """The run has ended, if everything it ever numbered is stored."""
        if not self.live:
            return
        if self.stream.rank != 0:
            self._submit(self._end_rank, lambda _: None, lambda _: None, 64)
            return

        def write(uow: UnitOfWork) -> list[Committed]:
            self._end_rank(uow)
            last = {"events": frame.events, "scalars": frame.scalars}
            if any(uow.high_water(self.stream, lane) < last[lane] for lane in LANES):
                return []
            now, code, reason = self._clock(), frame.exit_code, frame.reason.replace("\0", "")
            known = code if code is not None and abs(code) < 1 << 31 else None
            self._seen(uow, now)
            noted = ending.note_exception(uow, self.stream, reason, known, now)
            uow.end_run(self.run_id, at=now, reason=reason[:200], exit_code=known)
            return noted

        def done(noted: list[Committed]) -> None:
            for one in noted:
                self._committed(one)

        self._submit(write, done, lambda _: None, 64)

    def touch(self) -> None:
        """The run is alive: written down, so that it is known after a restart."""
        if self._touching:
            return
        self._touching = True

        def write(uow: UnitOfWork) -> None:
            self._touching = False
            self._seen(uow, self._clock())

        self._submit(write, lambda _: None, lambda _: None, 0)

    def _seen(self, uow: UnitOfWork, now: float, every_s: float = 0.0) -> None:
        """Write down when and where the run was, if `every_s` have passed since the last time."""
        if 0 <= now - self._seen_at < every_s:
            return
        self._seen_at = now
        step = min(self.last_step, limits.STEP_MAX)
        uow.touch_run(self.run_id, last_seen_at=now, last_step=step)
        if self.live and self.hello.world > 1:
            uow.touch_rank(self.stream, last_seen_at=now, last_step=step)

    def _end_rank(self, uow: UnitOfWork) -> None:
        if self.hello.world > 1:
            uow.end_rank(self.stream, self._clock())

    # --- jobs ---------------------------------------------------------------------------------

    def _in_order(self, lane: str, first: int, problem: str | None) -> None:
        if problem is None and first > self._next[lane]:
            problem = f"a hole: expected {lane} from {self._next[lane]}, got {first}"
        if problem is not None:
            raise ProtocolError(limits.CLOSE_PROTOCOL, problem)

    def _submit(self, write, done, failed, size: int, bury=None) -> None:
        size += JOB_BYTES
        self._waiting += size
        if self._waiting > BYTES_WAITING_MAX:
            self._room.clear()

        def after(call):
            def run(value: Any) -> None:
                try:
                    call(value)
                finally:
                    self._post.send(self._release, size)

            return run

        job = Job(write, after(done), after(failed), bury, self._slow, self.stream)
        self._intake.submit(job)

    def _release(self, size: int) -> None:
        self._waiting -= size
        if self._waiting <= BYTES_WAITING_MAX:
            self._room.set()

    def _slow(self) -> None:
        self.send(Slow(credit=2, retry=1.0))

    def _store(self, batch: Batch, frame: bytes) -> None:
        lane, last = batch.lane, batch.first + len(batch.records) - 1
        self.last_step = max(self.last_step, self._newest(batch))

        written: list[UnitOfWork] = []

        def write(uow: UnitOfWork) -> list[Committed]:
            written[:] = [uow]
            high = uow.high_water(self.stream, lane)
            if last <= high:
                return []  # a duplicate: acked and ignored
            kept, data = batch, frame
            if batch.first <= high:
                rest = batch.records[high + 1 - batch.first :]
                kept = Batch(lane=lane, first=high + 1, records=rest)
                data = msgspec.msgpack.encode(kept)
            elif batch.first > high + 1:
                raise ValueError(f"a hole: {lane} is stored up to {high}, got {batch.first}")
            now = self._clock()
            row = uow.append_journal(self.stream, lane, kept.first, last, data, now)
            uow.set_high_water(self.stream, lane, last)
            for record in kept.records:
                self._write_record(uow, record, now)
            self._seen(uow, now, SEEN_EVERY_S)
            committed = Committed(row, self.stream, lane, kept.records, self._series)
            return [committed, *self._combine(uow, committed, now)]

        def done(committed: list[Committed]) -> None:
            if self._shards is not None:
                self._shards.settled(written[0])
            self.send(Ack(lane=lane, upto=last, credit=self.credit()))
            for one in committed:
                self._committed(one)

        def failed(error: Exception) -> None:
            message = f"the database refused it: {type(error).__name__}"
            first = batch.first
            self.send(Reject(lane=lane, first=first, last=last, code="refused", message=message))
            self.send(Ack(lane=lane, upto=last, credit=self.credit()))

        bury = partial(self._skip, lane, batch.first, last, "refused", 0)
        self._submit(write, done, failed, len(frame), bury)

    def _combine(self, uow: UnitOfWork, committed: Committed, now: float) -> list[Committed]:
        """What these records complete together with those of other ranks."""
        if self._shards is None or committed.lane != "scalars":
            return []
        group = (self.hello.world, self.hello.generation)
        return self._shards.combine(uow, self.stream, group, tables_of(committed), now)

    def _newest(self, batch: Batch) -> int:
        newest = -1
        for record in batch.records:
            if isinstance(record, Table):
                newest = max(newest, int.from_bytes(record.steps[-8:], "little", signed=True))
        return newest

    def _write_record(self, uow: UnitOfWork, record: Record, now: float) -> None:
        run_id = self.run_id
        if isinstance(record, Table):
            return
        if isinstance(record, Mark) and record.what == "coverage":
            if self.live and self.stream.rank == 0:  # the present, said by who speaks for the run
                what = checks.tidy_coverage(record.data)
                uow.set_coverage(run_id, Coverage(step=record.step, at=now, what=what))
        elif isinstance(record, Mark):
            text, data = record.text, record.data
            mark = RunMark(
                run_id=run_id, what=record.what, step=record.step, at=now, text=text, data=data
            )
            uow.add_mark(mark)
        elif isinstance(record, CheckpointSaved):
            uow.add_checkpoint(
                Checkpoint(
                    run_id=run_id,
                    step=record.step,
                    at=now,
                    path=record.path,
                    bytes=record.bytes,
                    sha256=record.sha256,
                    command_id=record.command_id,
                )
            )
        elif isinstance(record, CommandResult):
            self._desk.result(uow, run_id, record)
        elif isinstance(record, NonFinite | Forensics | Problem):
            data = msgspec.msgpack.encode(record)
            what, step = _REPORTS[type(record)], getattr(record, "step", -1)
            uow.add_report(run_id, what, step, now, data, rank=self.stream.rank)
            if isinstance(record, NonFinite) and self.hello.world > 1:
                uow.rank_bad(self.stream, step=step, at=record.time, where=record.where)

    def _refuse(self, lane: Any, bad: checks.Bad) -> None:
        self.send(
            Reject(lane=lane, first=bad.seq, last=bad.seq, code=bad.code, message=bad.message)
        )
        self._pass_over(lane, bad.seq, bad.seq, bad.code, 0)

    def _pass_over(self, lane: Any, first: int, last: int, reason: str, points: int) -> None:
        """Write down that these records will not come, so that the lane goes on."""

        def done(_: None) -> None:
            self.send(Ack(lane=lane, upto=last, credit=self.credit()))

        def failed(error: Exception) -> None:
            _log.error("a gap cannot be written", run=self.run_id, error=repr(error)[:500])
            self.shut(limits.CLOSE_PROTOCOL, "a gap could not be written")

        write = partial(self._skip, lane, first, last, reason, points)
        self._submit(write, done, failed, 64)

    def _skip(
        self, lane: str, first: int, last: int, reason: str, points: int, uow: UnitOfWork
    ) -> None:
        high = uow.high_water(self.stream, lane)
        if last > high:
            begin = max(first, high + 1)
            uow.add_gap(self.stream, lane, begin, last, reason, points, self._clock())
            uow.set_high_water(self.stream, lane, last)
