"""F8 and F9: any byte string may lie where a segment should be; whole frames are read, no more."""

from __future__ import annotations

import os
import random
from pathlib import Path

from nanwatch.link.spool import BATCH, SegmentReader, Spool


def segment(directory: Path, count: int = 6) -> tuple[Path, list[tuple[int, bytes]]]:
    """A segment of frames of different lengths, and what is in it."""
    spool = Spool(directory, "scalars", 1 << 20, lambda: [b"declared"], lambda: b"hello")
    kept = []
    for number in range(count):
        payload = bytes([number]) * (7 * number + 1)
        spool.append(number, number, 1, payload)
        kept.append((number, payload))
    spool.close()
    (path,) = directory.glob("*.seg")
    return path, kept


def batches(reader: SegmentReader, *, salvage: bool) -> list[tuple[int, bytes]]:
    return [(e.first, e.payload) for e in reader.read(salvage=salvage) if e.kind == BATCH]


def test_cut_at_every_byte(tmp_path: Path) -> None:
    path, kept = segment(tmp_path)
    whole, cut = path.read_bytes(), tmp_path / "cut"
    for size in range(len(whole) + 1):
        cut.write_bytes(whole[:size])
        for salvage in (False, True):
            found = batches(SegmentReader(cut), salvage=salvage)
            assert found == kept[: len(found)]
    assert found == kept


def test_a_segment_that_still_grows_is_read_piece_by_piece(tmp_path: Path) -> None:
    path, kept = segment(tmp_path)
    whole, growing = path.read_bytes(), tmp_path / "growing"
    growing.write_bytes(b"")
    reader, found = SegmentReader(growing), []
    for position in range(0, len(whole), 5):
        with open(growing, "ab") as file:
            file.write(whole[position : position + 5])
        found += batches(reader, salvage=False)
    assert found == kept and reader.damaged == 0


def test_every_flipped_bit_costs_one_frame_at_most(tmp_path: Path) -> None:
    path, kept = segment(tmp_path)
    whole, damaged = path.read_bytes(), tmp_path / "damaged"
    for position in range(len(whole)):
        for bit in (0x01, 0x80):
            data = bytearray(whole)
            data[position] ^= bit
            damaged.write_bytes(data)
            found = batches(SegmentReader(damaged), salvage=True)
            assert len(found) >= len(kept) - 1 and set(found) <= set(kept), (position, bit)


def test_zeroed_pages_and_noise_are_passed_over(tmp_path: Path) -> None:
    path, kept = segment(tmp_path)
    whole, damaged = path.read_bytes(), tmp_path / "damaged"
    damaged.write_bytes(bytes(4096) + whole + os.urandom(4096) + whole + bytes(100))
    reader = SegmentReader(damaged)
    assert batches(reader, salvage=True) == kept + kept and reader.damaged >= 8292
    random.seed(0)
    for _ in range(200):
        damaged.write_bytes(random.randbytes(random.randrange(300)))
        assert batches(SegmentReader(damaged), salvage=True) == []
    assert batches(SegmentReader(tmp_path / "missing"), salvage=True) == []
