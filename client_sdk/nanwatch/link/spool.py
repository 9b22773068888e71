"""Append-only files that keep every unacknowledged frame of one lane, safe on network disks.

A segment is a sequence of entries: CRC-32 u32 over all that follows, length u32, type u8, first
i64, last i64, payload (one encoded frame). Every segment begins with the hello of its process and
the full declaration table, so that it decodes alone and is told from a foreign one. No SQLite and
no file locks here: one process owns a spool directory. When the disk fails, entries stay in memory
within a bound. Called by the background thread only.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CHECKSUM = struct.Struct("<I")
HEADER = struct.Struct("<IBqq")
HEAD_BYTES = CHECKSUM.size + HEADER.size
DECLARE, BATCH, HELLO = 1, 2, 3
SEGMENT_BYTES, SEGMENT_BYTES_LEAST = 4 << 20, 4 << 10
SEGMENTS_IN_BOUND = 4
"""Or more: only whole segments can be deleted, so a whole one is given up at the bound."""
MEMORY_BYTES = 32 << 20


@dataclass(slots=True)
class Entry:
    """One frame that is not acknowledged yet."""

    first: int
    last: int
    points: int
    size: int
    segment: int
    offset: int
    payload: bytes | None
    """None: on disk."""


class Lost(NamedTuple):
    """Sequence numbers that were given up because the bound was reached."""

    first: int
    last: int
    points: int


class Spool:
    """Unacknowledged frames of one lane, oldest first, with a send cursor."""

    def __init__(
        self,
        directory: Path,
        lane: str,
        bound_bytes: int,
        declarations: Callable[[], list[bytes]],
        hello: Callable[[], bytes] | None = None,
    ) -> None:
        self._directory = directory
        self._hello = hello
        self._lane = lane
        self._bound = bound_bytes
        share = max(SEGMENT_BYTES_LEAST, bound_bytes // SEGMENTS_IN_BOUND)
        self._segment_bytes = min(SEGMENT_BYTES, share)
        self._declarations = declarations
        self._entries: deque[Entry] = deque()
        self._sent = 0
        """Entries before this index are in flight."""
        self._sent_upto = -1
        """Last sequence number that was ever sent."""
        self._number = -1
        self._file: int | None = None
        self._written = self._head = 0
        """Bytes of the segment that is being filled, and of its hello and first declarations."""
        self._sizes: dict[int, int] = {}
        self._unsynced = False
        self._secured = -1
        """Last sequence number that was here when `secure` looked."""
        self._newest: tuple[Entry, bytes] | None = None
        """The newest frame, so that one that is sent at once is not read back from the disk."""
        self.memory_only = False
        self.lost: deque[Lost] = deque()
        """Given up since someone last took them."""
        self.unsure: deque[Lost] = deque()
        """Sent and given up without an answer: the next one tells whether the server has them."""
        self.bytes = 0

    # --- writing -------------------------------------------------------------------------------

    def append(self, first: int, last: int, points: int, payload: bytes) -> OSError | None:
        """Keep a frame until it is acknowledged. Returns the disk's error if it went to memory."""
        error = None
        entry = Entry(first, last, points, len(payload), -1, 0, payload)
        if not self.memory_only:
            try:
                entry.segment, entry.offset = self._write(BATCH, first, last, payload)
                entry.payload, self._newest = None, (entry, payload)
            except OSError as failure:
                error = failure
                self.memory_only = True
                self._close()
        self._entries.append(entry)
        self.bytes += entry.size
        self._enforce_bound()
        return error

    def _write(self, kind: int, first: int, last: int, payload: bytes) -> tuple[int, int]:
        # Very many names of series take more than a small segment: then it is as long as they are.
        full = self._written - self._head >= max(self._segment_bytes, self._head)
        if self._file is None or full:
            self._open_segment()
        return self._write_entry(kind, first, last, payload)

    def _write_entry(self, kind: int, first: int, last: int, payload: bytes) -> tuple[int, int]:
        assert self._file is not None
        head = HEADER.pack(len(payload), kind, first, last)
        checksum = CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(head)))
        data = b"".join((checksum, head, payload))
        offset = self._written + HEAD_BYTES
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, memoryview(data)[written:])
        self._written += len(data)
        self._sizes[self._number] = self._written
        self._unsynced = True
        return self._number, offset

    def _open_segment(self) -> None:
        self._close()
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._number += 1
        path = self._path(self._number)
        self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_TRUNC, 0o600)
        self._written = 0
        if self._hello is not None:
            self._write_entry(HELLO, 0, 0, self._hello())
        for payload in self._declarations():
            self._write_entry(DECLARE, 0, 0, payload)
        self._head = self._written

    def write_declarations(self, payload: bytes) -> None:
        """Repeat new declarations in the current segment, so that it still decodes alone."""
        if self.memory_only or self._file is None:
            return
        try:
            self._write_entry(DECLARE, 0, 0, payload)
        except OSError:
            self.memory_only = True
            self._close()

    def secure(self) -> None:
        """Sync if something was here at the last call already: the server has the rest soon."""
        if self._entries and self._entries[0].last <= self._secured:
            self.sync()
        self._secured = self._entries[-1].last if self._entries else -1

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        if self._unsynced and self._file is not None:
            self._unsynced = False
            try:
                os.fsync(self._file)
            except OSError:
                # A failed fsync cannot be repaired by another one: trust this file no more.
                self.memory_only = True
                self._close()

    def _close(self) -> None:
        if self._file is not None:
            try:
                os.close(self._file)
            finally:
                self._file = None

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._lane}-{number:08d}.seg"

    def _enforce_bound(self) -> None:
        bound = min(self._bound, MEMORY_BYTES) if self.memory_only else self._bound
        while self.bytes > bound and len(self._entries) > 1:
            segment = self._entries[0].segment
            self._give_up_oldest()
            # What stays on the disk is sent by whoever comes after us: so none of it may be lost.
            while 0 <= segment < self._number and self._entries[0].segment == segment:
                self._give_up_oldest()
        self._unlink_before(self._entries[0].segment if self._entries else self._number)

    def _give_up_oldest(self) -> None:
        oldest = self._entries.popleft()
        self.bytes -= oldest.size
        self._sent = max(0, self._sent - 1)
        lost = Lost(oldest.first, oldest.last, oldest.points)
        (self.unsure if lost.last <= self._sent_upto else self.lost).append(lost)

    # --- sending -------------------------------------------------------------------------------

    def next(self) -> tuple[Entry, bytes] | None:
        """The next frame to send, or None. Frames that cannot be read back count as lost."""
        while self._sent < len(self._entries):
            entry = self._entries[self._sent]
            payload = entry.payload if entry.payload is not None else self._read(entry)
            if payload is not None:
                self._sent += 1
                self._sent_upto = max(self._sent_upto, entry.last)
                return entry, payload
            del self._entries[self._sent]
            self.bytes -= entry.size
            self.lost.append(Lost(entry.first, entry.last, entry.points))
        return None

    def _read(self, entry: Entry) -> bytes | None:
        newest, self._newest = self._newest, None
        if newest is not None and newest[0] is entry:
            return newest[1]
        try:
            if entry.segment == self._number and self._file is not None:
                # Also when someone deleted the file under us.
                payload = os.pread(self._file, entry.size, entry.offset)
                return payload if len(payload) == entry.size else None
            with open(self._path(entry.segment), "rb") as file:
                file.seek(entry.offset)
                payload = file.read(entry.size)
        except OSError:
            return None
        return payload if len(payload) == entry.size else None

    def ack(self, upto: int) -> int:
        """Forget everything up to a sequence number; returns the number of frames forgotten."""
        while self.unsure and self.unsure[0].last <= upto:
            self.unsure.popleft()
        forgotten = 0
        while self._entries and self._entries[0].last <= upto:
            entry = self._entries.popleft()
            self.bytes -= entry.size
            forgotten += 1
        self._sent = max(0, self._sent - forgotten)
        if forgotten:
            self._unlink_before(self._entries[0].segment if self._entries else self._number)
        return forgotten

    def rewind(self) -> None:
        """Send everything again that is not acknowledged."""
        self._sent = 0

    def resume(self, upto: int) -> None:
        """A new connection, to a server that has everything up to a sequence number."""
        self.ack(upto)
        self.rewind()
        self.lost.extend(self.unsure)
        self.unsure.clear()

    def _unlink_before(self, segment: int) -> None:
        for number in [n for n in self._sizes if 0 <= n < segment]:
            del self._sizes[number]
            try:
                self._path(number).unlink()
            except OSError:
                pass

    @property
    def in_flight(self) -> int:
        """Frames sent and not acknowledged."""
        return self._sent

    @property
    def unsent(self) -> int:
        """Frames not sent on this connection."""
        return len(self._entries) - self._sent

    @property
    def first_held(self) -> int | None:
        """Oldest sequence number held."""
        return self._entries[0].first if self._entries else None

    def close(self) -> None:
        """Close files; delete them if everything was acknowledged."""
        self.sync()
        self._close()
        if not self._entries:
            self._unlink_before(self._number + 1)


def scan(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, first, last, payload) of every whole entry of a segment, up to the first damage."""
    for entry in SegmentReader(path).read():
        yield entry.kind, entry.first, entry.last, entry.payload


class Kept(NamedTuple):
    """One whole entry of a segment."""

    kind: int
    first: int
    last: int
    payload: bytes


class SegmentReader:
    """Reads a segment from where it stopped: of a dead process, or of one that still writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        """Bytes that belong to no whole entry and were passed over."""
        self._position = 0

    def read(self, *, salvage: bool = False) -> Iterator[Kept]:
        """The whole entries that were not read yet.

        Stops at a damaged or cut one, which may be in the middle of being written. With `salvage`
        (nobody writes any more) goes on behind it, at the next entry whose checksum is right.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self._position)
                data = file.read()
        except OSError:
            return
        start, position = self._position, 0
        while position < len(data):
            found = _entry_at(data, position)
            if found is None:
                if not salvage:
                    return
                position += 1
                self.damaged += 1
            else:
                entry, position = found
                self._position = start + position
                yield entry
        self._position = start + position


def _entry_at(data: bytes, position: int) -> tuple[Kept, int] | None:
    """The whole entry that begins here, and where it ends."""
    if position + HEAD_BYTES > len(data):
        return None
    body = position + CHECKSUM.size
    size, kind, first, last = HEADER.unpack_from(data, body)
    end = position + HEAD_BYTES + size
    if kind not in (DECLARE, BATCH, HELLO) or end > len(data) or not 0 <= first <= last:
        return None
    if zlib.crc32(data[body:end]) != CHECKSUM.unpack_from(data, position)[0]:
        return None
    return Kept(kind, first, last, data[end - size : end]), end
