"""Numbers records, packs them into batches and keeps them in the spool until acknowledged.

Two lanes with contiguous sequence numbers; `events` go first. Background thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nanwatch.contract.frames import (
    LANES,
    Batch,
    CheckpointSaved,
    CommandResult,
    Declare,
    Forensics,
    Gap,
    Lane,
    NonFinite,
    Problem,
    Record,
    SeriesDecl,
    Span,
    Table,
    encode,
)
from nanwatch.contract.limits import BATCH_RECORDS_MAX, FRAME_BYTES_MAX
from nanwatch.guard import GUARD
from nanwatch.link.spool import Lost, Spool

FRAME_BYTES_AIM = FRAME_BYTES_MAX // 2
EVENT_SHARE = 10
"""One tenth of the spool's bound is kept for events."""


SPOOL_FULL, UNKNOWN = "spool full", "lost"
"""Why records will never come."""

EVENTS = frozenset({CheckpointSaved, CommandResult, Forensics, NonFinite, Problem})


def lane_of(record: Record) -> Lane:
    """Points and the marks that rules consume are scalars; everything else is an event."""
    return "events" if type(record) in EVENTS else "scalars"


def record_bytes(record: Record) -> int:
    """Roughly how many bytes a record takes in a frame."""
    if isinstance(record, Table):
        return len(record.values) + len(record.steps) + len(record.times) + 9 * len(record.ids) + 64
    return 1024


DECLARED_AT_ONCE = 500
"""500 × (3 names of 200 characters) stay below a frame's limit."""


def declare_frames(series: list[SeriesDecl]) -> list[bytes]:
    """Declarations in frames below the limit; one empty frame if there are none."""
    return [
        encode(Declare(series=series[low : low + DECLARED_AT_ONCE]))
        for low in range(0, max(1, len(series)), DECLARED_AT_ONCE)
    ]


def gaps(lane: Lane, first: int, last: int, given_up: Iterable[Lost]) -> Iterator[Gap]:
    """What to declare of the hole from `first` to `last`: what was given up with its points, the
    rest without, since nobody knows them. `given_up` in order."""
    for lost in given_up:
        if lost.last < first or lost.first > last:
            continue
        if lost.first > first:
            yield Gap(lane=lane, first=first, last=lost.first - 1, reason=UNKNOWN)
        end = min(lost.last, last)
        begin = max(lost.first, first)
        yield Gap(lane=lane, first=begin, last=end, reason=SPOOL_FULL, points=lost.points)
        first = end + 1
    if first <= last:
        yield Gap(lane=lane, first=first, last=last, reason=UNKNOWN)


class Outbox:
    """Both lanes of one process. `count_drop` is told once of all points that were given up."""

    def __init__(
        self,
        directory: Path,
        bound_bytes: int,
        hello: Callable[[], bytes],
        count_drop: Callable[[str, int], None],
    ) -> None:
        self._count_drop = count_drop
        self._given_up: dict[Lane, list[Lost]] = {lane: [] for lane in LANES}
        """What the server has not passed over yet, in order; neighbours are one."""
        self._passed: dict[Lane, int] = dict.fromkeys(LANES, -1)
        """Last number that was sent or declared on this connection."""
        self._declared: list[SeriesDecl] = []
        share = bound_bytes // EVENT_SHARE
        self.spools: dict[Lane, Spool] = {
            "events": Spool(directory, "events", share, self.declarations, hello),
            "scalars": Spool(directory, "scalars", bound_bytes - share, self.declarations, hello),
        }
        self._next: dict[Lane, int] = {"events": 0, "scalars": 0}

    def declarations(self) -> list[bytes]:
        """Frames with every declaration made so far."""
        return declare_frames(self._declared)

    def declare(self, fresh: list[SeriesDecl]) -> list[bytes]:
        """Take new declarations; returns the frames to send."""
        if not fresh:
            return []
        self._declared.extend(fresh)
        made = declare_frames(fresh)
        for spool in self.spools.values():
            for frame in made:
                spool.write_declarations(frame)
        return made

    def put(self, records: list[Record]) -> None:
        """Number the records and keep them."""
        found: dict[Lane, list[Record]] = {"events": [], "scalars": []}
        for record in records:
            found[lane_of(record)].append(record)
        for lane, mine in found.items():
            batch: list[Record] = []
            size = 0
            for record in mine:
                more = record_bytes(record)
                if batch and (size + more > FRAME_BYTES_AIM or len(batch) >= BATCH_RECORDS_MAX):
                    self._put_batch(lane, batch)
                    batch, size = [], 0
                batch.append(record)
                size += more
            if batch:
                self._put_batch(lane, batch)

    def _put_batch(self, lane: Lane, records: list[Record]) -> None:
        first = self._next[lane]
        last = first + len(records) - 1
        self._next[lane] = last + 1
        points = sum(
            len(r.ids) * (len(r.steps) // 8) if isinstance(r, Table) else 1 for r in records
        )
        payload = encode(Batch(lane=lane, first=first, records=records))
        error = self.spools[lane].append(first, last, points, payload)
        self._count_losses(lane)
        if error is not None:
            GUARD.note("spool", error)

    # --- losses ----------------------------------------------------------------------------------

    def _count_losses(self, lane: Lane) -> None:
        fresh = self.spools[lane].lost
        if not fresh:
            return
        self._count_drop(SPOOL_FULL, sum(lost.points for lost in fresh))
        self._given_up[lane] = _joined([*self._given_up[lane], *fresh])
        fresh.clear()

    def losses(self) -> tuple[dict[str, list[Lost]], int]:
        """What was given up and is not known to the server, by lane; and how many points of it
        are not counted yet, because the server may have them."""
        unsure = [lost.points for spool in self.spools.values() for lost in spool.unsure]
        found: dict[str, list[Lost]] = {
            lane: _joined([*self._given_up[lane], *self.spools[lane].unsure]) for lane in LANES
        }
        return found, sum(unsure)

    # --- sending ---------------------------------------------------------------------------------

    def resume(self, lane: Lane, upto: int) -> None:
        """A new connection, to a server that has everything up to a sequence number."""
        self.spools[lane].resume(upto)
        self._count_losses(lane)
        self._passed[lane] = upto
        self._forget(lane, upto)

    def ack(self, lane: Lane, upto: int) -> None:
        """Forget everything up to a sequence number."""
        self.spools[lane].ack(upto)
        self._forget(lane, upto)

    def _forget(self, lane: Lane, upto: int) -> None:
        if self._given_up[lane]:
            self._given_up[lane] = [lost for lost in self._given_up[lane] if lost.last > upto]

    def due(self, lane: Lane, credit: int) -> Iterator[bytes]:
        """Frames to send now, holes declared in their places."""
        spool = self.spools[lane]
        while spool.unsent and spool.in_flight < credit:
            found = spool.next()
            self._count_losses(lane)
            if found is None:
                break
            entry, payload = found
            yield from self._pass_over(lane, entry.first - 1)
            self._passed[lane] = max(self._passed[lane], entry.last)
            yield payload
        if not spool.unsent:
            yield from self._pass_over(lane, self.last(lane))

    def _pass_over(self, lane: Lane, upto: int) -> Iterator[bytes]:
        first = self._passed[lane] + 1
        if first <= upto:
            self._passed[lane] = upto
            for gap in gaps(lane, first, upto, self._given_up[lane]):
                yield encode(gap)

    def span(self, lane: Lane) -> Span:
        """What this process still holds of a lane."""
        held = self.spools[lane].first_held
        return Span(self._next[lane] if held is None else held, self._next[lane] - 1)

    def last(self, lane: Lane) -> int:
        """Last sequence number given out; -1 if none."""
        return self._next[lane] - 1

    @property
    def empty(self) -> bool:
        """True if everything was acknowledged."""
        return all(spool.first_held is None for spool in self.spools.values())

    @property
    def unsent(self) -> bool:
        """True if a frame waits to be sent on this connection."""
        return any(spool.unsent for spool in self.spools.values())

    def queued(self) -> int:
        """Frames not acknowledged yet."""
        return sum(spool.in_flight + spool.unsent for spool in self.spools.values())

    def secure(self) -> None:
        """Make what has waited for its acknowledgement since the last call survive a power cut."""
        for spool in self.spools.values():
            spool.secure()

    def sync(self) -> None:
        """Make both spools survive a power cut."""
        for spool in self.spools.values():
            spool.sync()

    def close(self) -> None:
        """Close the spools."""
        for spool in self.spools.values():
            spool.close()


def _joined(found: list[Lost]) -> list[Lost]:
    """In order, neighbours as one."""
    joined: list[Lost] = []
    for lost in sorted(found):
        before = joined[-1] if joined else None
        if before is not None and before.last + 1 == lost.first:
            joined[-1] = Lost(before.first, lost.last, before.points + lost.points)
        else:
            joined.append(lost)
    return joined
