"""Numbers records, packs them into batches and keeps them in the spool until acknowledged.

Two lanes with contiguous sequence numbers; `events` go first. Background thread only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nanwatch.contract.frames import (
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
from nanwatch.link.spool import Spool

FRAME_BYTES_AIM = FRAME_BYTES_MAX // 2
EVENT_SHARE = 10
"""One tenth of the spool's bound is kept for events."""


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


class Outbox:
    """Both lanes of one process."""

    def __init__(
        self, directory: Path, bound_bytes: int, hello: Callable[[], bytes] | None = None
    ) -> None:
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
        if error is not None:
            GUARD.note("spool", error)

    def gaps(self) -> list[tuple[Gap, int]]:
        """Losses to declare to the server, with the points they held."""
        found: list[tuple[Gap, int]] = []
        for lane, spool in self.spools.items():
            while spool.lost:
                lost = spool.lost.popleft()
                gap = Gap(
                    lane=lane,
                    first=lost.first,
                    last=lost.last,
                    reason="spool full",
                    points=lost.points,
                )
                found.append((gap, lost.points))
        return found

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
