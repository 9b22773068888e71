"""The spool: nothing is lost below its bound, everything lost is declared, no damage stops it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanwatch.link.spool import BATCH, DECLARE, Spool, scan


def make(directory: Path, bound: int = 1 << 20) -> Spool:
    return Spool(directory, "scalars", bound, lambda: [b"declared"])


def drain(spool: Spool) -> list[bytes]:
    found = []
    while (entry := spool.next()) is not None:
        found.append(entry[1])
    return found


def test_keeps_order_and_forgets_only_what_was_acknowledged(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for n in range(10):
        assert spool.append(n, n, 1, f"frame {n}".encode()) is None
    assert drain(spool) == [f"frame {n}".encode() for n in range(10)]
    assert drain(spool) == []
    spool.ack(3)
    spool.rewind()
    assert drain(spool) == [f"frame {n}".encode() for n in range(4, 10)]
    assert spool.first_held == 4


def test_a_batch_is_forgotten_only_when_its_last_record_is_acknowledged(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spool.append(0, 9, 10, b"ten")
    spool.ack(8)
    spool.rewind()
    assert drain(spool) == [b"ten"]
    spool.ack(9)
    assert spool.first_held is None


def test_old_segments_are_deleted_after_the_ack(tmp_path: Path) -> None:
    spool = make(tmp_path, bound=64 << 20)
    block = bytes(1 << 20)
    for n in range(12):
        spool.append(n, n, 1, block)
    assert len(list(tmp_path.glob("*.seg"))) >= 3
    assert len(drain(spool)) == 12
    spool.ack(11)
    spool.close()
    assert list(tmp_path.glob("*.seg")) == []


def test_the_bound_drops_the_oldest_and_says_which(tmp_path: Path) -> None:
    spool = make(tmp_path, bound=1000)
    for n in range(20):
        spool.append(n, n, 5, bytes(100))
    lost = list(spool.lost)
    assert [gap.first for gap in lost] == list(range(10))
    assert sum(gap.points for gap in lost) == 50
    assert len(drain(spool)) == 10 and spool.bytes <= 1000


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.seg"))


@pytest.mark.parametrize("bound", [300_000, 2_000_000, 6_000_000])
def test_the_disk_keeps_to_the_bound_and_holds_nothing_that_is_given_up(
    tmp_path: Path, bound: int
) -> None:
    spool = make(tmp_path, bound)
    frames = 4 * bound // 5_000
    for n in range(frames):
        spool.append(n, n, 1, bytes(5_000))
        assert on_disk(tmp_path) < 1.01 * bound + 5_000
    assert on_disk(tmp_path) > 0.7 * bound
    given_up = sum(lost.points for lost in spool.lost)
    on_the_disk = [
        first
        for path in sorted(tmp_path.glob("*.seg"))
        for kind, first, _, _ in scan(path)
        if kind == BATCH
    ]
    assert on_the_disk == list(range(given_up, frames)) and len(drain(spool)) == len(on_the_disk)


def test_names_that_take_more_than_a_segment_are_not_repeated_for_each_frame(
    tmp_path: Path,
) -> None:
    names = bytes(200_000)
    spool = Spool(tmp_path, "scalars", 100_000, lambda: [names])
    for n in range(100):
        spool.append(n, n, 1, bytes(5_000))
        assert on_disk(tmp_path) < 2 * (len(names) + 205_000)
    assert len(drain(spool)) == 20


def test_read_only_disk_falls_back_to_memory(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    spool = make(blocked / "spool")
    assert spool.append(0, 0, 1, b"kept") is not None
    assert spool.append(1, 1, 1, b"too") is None
    assert spool.memory_only and drain(spool) == [b"kept", b"too"]


def test_a_deleted_segment_becomes_a_gap(tmp_path: Path) -> None:
    spool = make(tmp_path, bound=64 << 20)
    spool.append(0, 4, 5, b"gone")
    for n in range(5, 11):
        spool.append(n, n, 1, bytes(1 << 20))
    for path in tmp_path.glob("*.seg"):
        path.unlink()
    kept = drain(spool)
    assert next((g.first, g.last) for g in spool.lost) == (0, 4)
    assert len(kept) + len(spool.lost) == 7 and kept, "the open segment is read by its descriptor"


def test_every_truncation_replays_the_whole_frames_before_it(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for n in range(4):
        spool.append(n, n, 1, f"frame {n}".encode())
    spool.close()
    (path,) = tmp_path.glob("*.seg")
    whole = path.read_bytes()
    ends = []
    cut = tmp_path / "cut.seg"
    for size in range(len(whole) + 1):
        cut.write_bytes(whole[:size])
        found = list(scan(cut))
        ends.append(len(found))
        assert [payload for kind, _, _, payload in found if kind == BATCH] == [
            f"frame {n}".encode() for n in range(max(0, len(found) - 1))
        ]
    assert ends[0] == 0 and ends[-1] == 5 and ends == sorted(ends)
    assert next(scan(path))[0] == DECLARE


def test_a_flipped_bit_ends_the_replay_before_the_damage(tmp_path: Path) -> None:
    spool = make(tmp_path)
    for n in range(3):
        spool.append(n, n, 1, bytes([n]) * 50)
    spool.close()
    (path,) = tmp_path.glob("*.seg")
    data = bytearray(path.read_bytes())
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        for kind, first, _, payload in scan(path):
            assert kind == DECLARE or payload == bytes([first]) * 50
