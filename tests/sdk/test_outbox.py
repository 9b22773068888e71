"""The outbox at its bound: whatever the server had when, every point is stored or counted, once."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from nanwatch.contract.frames import Batch, Gap, Lane, Table, decode_client
from nanwatch.link.outbox import SPOOL_FULL, Outbox
from nanwatch.link.spool import Lost

LANE: Lane = "scalars"
POINTS = 50


def table() -> Table:
    """One record of 50 points, 1200 bytes."""
    steps, floats = struct.pack(f"{POINTS}q", *range(POINTS)), struct.pack(f"{POINTS}d", *range(50))
    return Table(ids=[0], steps=steps, times=floats, values=floats)


class Link:
    """What a server does with the frames: in order, without holes, late with its answers."""

    def __init__(self) -> None:
        self.high, self.stored, self.declared = -1, 0, 0
        self.reasons: set[str] = set()

    def take(self, payload: bytes) -> None:
        frame = decode_client(payload)
        assert isinstance(frame, Batch | Gap)
        assert frame.first <= self.high + 1, "a hole"
        if isinstance(frame, Gap):
            if frame.last > self.high:
                self.high, self.declared = frame.last, self.declared + frame.points
                self.reasons.add(frame.reason)
            return
        fresh = max(0, frame.first + len(frame.records) - 1 - self.high)
        self.high += fresh
        self.stored += POINTS * fresh


@pytest.mark.parametrize("seed", range(20))
def test_each_point_is_stored_or_counted_once(tmp_path: Path, seed: int) -> None:
    chance, link, counted = random.Random(seed), Link(), dict[str, int]()

    def count(reason: str, points: int) -> None:
        counted[reason] = counted.get(reason, 0) + points

    outbox = Outbox(tmp_path, 40_000, lambda: b"hello", count)
    online, produced = False, 0
    for _ in range(400):
        does = chance.choices(["put", "send", "ack", "break", "slow"], [8, 4, 2, 1, 0.3])[0]
        if does == "put":
            outbox.put([table() for _ in range(chance.randint(1, 3))])
            produced = POINTS * (outbox.last(LANE) + 1)
        elif does == "break":
            online = not online
            if online:
                outbox.resume(LANE, link.high)
        elif online and does == "send":
            for payload in outbox.due(LANE, chance.randint(1, 64)):
                link.take(payload)
        elif online and does == "ack":
            outbox.ack(LANE, chance.randint(-1, link.high) if link.high >= 0 else -1)
        elif online and does == "slow":
            outbox.spools[LANE].rewind()
    held = outbox.losses()
    outbox.resume(LANE, link.high)
    for payload in outbox.due(LANE, 1 << 30):
        link.take(payload)
    assert produced == link.stored + link.declared == link.stored + counted.get(SPOOL_FULL, 0)
    assert link.declared and link.reasons == {SPOOL_FULL}
    assert held[0][LANE] == sorted(held[0][LANE]) and all(
        before.last < after.first
        for before, after in zip(held[0][LANE], held[0][LANE][1:], strict=False)
    )
    assert outbox.losses()[1] == 0 and outbox.last(LANE) == link.high


def test_a_frame_that_cannot_be_read_back_is_declared_in_its_place(tmp_path: Path) -> None:
    link, counted = Link(), list[tuple[str, int]]()
    outbox = Outbox(
        tmp_path, 60_000, lambda: b"hello", lambda reason, points: counted.append((reason, points))
    )
    for _ in range(30):
        outbox.put([table()])
    sorted(tmp_path.glob("scalars-*.seg"))[1].unlink()
    outbox.resume(LANE, -1)
    for payload in outbox.due(LANE, 64):
        link.take(payload)
    assert 0 < link.declared < link.declared + link.stored == 30 * POINTS
    assert sum(points for _, points in counted) == link.declared
    outbox.ack(LANE, link.high)
    assert outbox.empty and outbox.losses() == ({"events": [], LANE: list[Lost]()}, 0)
