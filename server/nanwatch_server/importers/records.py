"""Records of one event file of TensorBoard: cut out, and found again behind damage.

A record is its length, the sum of the length, its bytes and the sum of them. The sum of a length
is checked always, for a wrong one loses all that follows. That of the bytes too where they are as
few as a number needs, many records at once, for one by one it takes longer than all the rest; of
longer ones (pictures, histograms) only beside damage. What is in a record is no matter here.
Called by `tensorboard`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

RECORD_BYTES_MAX = 256 << 20

_HEAD = struct.Struct("<QI")
_FOOT_BYTES = 4
_READ_BYTES = 4 << 20
_HEADS_MAX = 10_000
_WINDOW_BYTES = 4 << 10
"""So many bytes behind damage are searched first, then twice as many, and so on."""
_CHECKED_BYTES = 256
"""Longer records hold no single number."""
_FEW = 24
"""So many records of a length are summed one by one."""
_MORE, _DAMAGED = range(2)
"""What is behind the records: one whose rest is not there yet, or what is none."""


def _table() -> np.ndarray:
    """CRC-32C of every byte."""
    sums = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        sums = np.where(sums & 1, (sums >> 1) ^ np.uint32(0x82F63B78), sums >> 1)
    return sums


_SUMS = _table()
_SUMS_OF: list[int] = _SUMS.tolist()


def _sum_of(data: bytes) -> int:
    """The sum of some bytes as event files hold it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _SUMS_OF[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Gap(NamedTuple):
    """Bytes between two records that are none."""

    size: int


class RecordReader:
    """Records of one file that may grow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0
        """Bytes taken."""
        self._heads: dict[bytes, int] = {}
        """Head of a record → its length, -1 for none: most records are as long as others."""

    def records(self, *, last: bool) -> Iterator[bytes | Gap]:
        """Sound records from where the last call ended. `last`: the file grows no more, so that a
        record without its end is damage too."""
        with open(self.path, "rb") as file:
            file.seek(self.at)
            data, ended, looked = b"", False, 1
            while not ended:
                # Twice as many each time, or a long record is copied for every block.
                block = file.read(max(_READ_BYTES, len(data)))
                ended, data, at = not block, data + block, 0
                while True:
                    spans, behind = self._spans(data, at, ended)
                    damaged = _damaged(data, spans)
                    for start, stop in spans:
                        self.at += stop - start
                        bad = start in damaged
                        yield (
                            Gap(stop - start)
                            if bad
                            else data[start + _HEAD.size : stop - _FOOT_BYTES]
                        )
                        at = stop
                    if behind != _DAMAGED and not (ended and last and at < len(data)):
                        break
                    found, looked = self._after(data, at + looked, ended)
                    if found < 0:
                        looked -= at
                        break
                    looked = 1
                    self.at += found - at
                    yield Gap(found - at)
                    at = found
                data = data[at:]

    @property
    def left(self) -> int:
        """Bytes behind the last sound record; none of a file that was deleted since."""
        try:
            return self.path.stat().st_size - self.at
        except FileNotFoundError:
            return 0

    def _spans(self, data: bytes, at: int, ended: bool) -> tuple[list[tuple[int, int]], int]:
        """Where the records from `at` on begin and end; `_MORE` or `_DAMAGED` is behind them."""
        spans: list[tuple[int, int]] = []
        size = self._size(data, at)
        while size is not None and size >= 0:
            end = at + _HEAD.size + size + _FOOT_BYTES
            if end > len(data):
                return spans, _MORE
            behind = self._size(data, end)
            if behind is None and not ended:
                return spans, _MORE
            if (behind is None or behind < 0) and not _is_sound(data, at, end):
                return spans, _DAMAGED
            spans.append((at, end))
            at, size = end, behind
        return spans, _MORE if size is None else _DAMAGED

    def _size(self, data: bytes, at: int) -> int | None:
        """Length of the record whose head is there; -1 if it is no head, None if there is none."""
        head = data[at : at + _HEAD.size]
        size = self._heads.get(head)
        if size is None:
            if len(head) < _HEAD.size:
                return None
            size, told = _HEAD.unpack(head)
            if size > RECORD_BYTES_MAX or _sum_of(head[:8]) != told:
                size = -1
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            self._heads[head] = size
        return size

    def _after(self, data: bytes, start: int, ended: bool) -> tuple[int, int]:
        """(Start of the first sound record from `start` on, -1 for none; where to look on)."""
        for at in _heads(data, start):
            end = at + _HEAD.size + _HEAD.unpack_from(data, at)[0] + _FOOT_BYTES
            if end > len(data):
                if not ended:
                    return -1, at
            elif _is_sound(data, at, end):
                return at, at
        return -1, max(start, len(data) - _HEAD.size + 1)


def _damaged(data: bytes, spans: list[tuple[int, int]]) -> set[int]:
    """Starts of short records whose bytes have another sum."""
    found: set[int] = set()
    alike: dict[int, list[int]] = {}
    for at, end in spans:
        if end - at <= _CHECKED_BYTES:
            alike.setdefault(end - at, []).append(at)
    seen = np.frombuffer(data, np.uint8)
    for size, starts in alike.items():
        if len(starts) < _FEW:
            found.update(at for at in starts if not _is_sound(data, at, at + size))
            continue
        at = np.array(starts)
        body = np.ascontiguousarray(seen[np.arange(size)[:, None] + at])  # a row for each byte
        foot = size - _FOOT_BYTES
        found.update(at[_sums(body[_HEAD.size : foot]) != _whole(body[foot:])].tolist())
    return found


def _sums(body: np.ndarray) -> np.ndarray:
    """`_sum_of` of many at once, each a column."""
    crc = np.full(body.shape[1], 0xFFFFFFFF, np.uint32)
    for row in body:
        crc = _SUMS[(crc ^ row) & 0xFF] ^ (crc >> np.uint32(8))
    crc = ~crc
    return (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(0xA282EAD8)


def _whole(body: np.ndarray) -> np.ndarray:
    """Four bytes as one number, each a column."""
    parts = [row.astype(np.uint32) << np.uint32(8 * byte) for byte, row in enumerate(body)]
    return parts[0] | parts[1] | parts[2] | parts[3]


def _is_sound(data: bytes, at: int, end: int) -> bool:
    """True if the sum of the record's bytes is right."""
    told = int.from_bytes(data[end - _FOOT_BYTES : end], "little")
    return _sum_of(data[at + _HEAD.size : end - _FOOT_BYTES]) == told


def _heads(data: bytes, start: int) -> Iterator[int]:
    """Places from `start` on where a length stands before its sum, no further than asked for."""
    stop, window = len(data) - _HEAD.size + 1, _WINDOW_BYTES
    while start < stop:
        count = min(window, stop - start)
        yield from _heads_in(data, start, count)
        start, window = start + count, window * 2


def _heads_in(data: bytes, start: int, count: int) -> list[int]:
    """Those among `count` places; all of a head must lie in `data`."""
    seen = np.frombuffer(data, np.uint8, offset=start)
    could = seen[3 : 3 + count] < RECORD_BYTES_MAX >> 24
    for byte in range(4, 8):
        could &= seen[byte : byte + count] == 0
    at = np.flatnonzero(could)
    told = _whole(seen[np.arange(8, 12)[:, None] + at])
    at, told = at[told > 0], told[told > 0]  # nothing but zeros is the commonest damage
    return (at[_sums(seen[np.arange(8)[:, None] + at]) == told] + start).tolist()
