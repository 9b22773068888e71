"""The files of one spool directory beside its segments: who fills it, what it holds, how it ended.

`hello.msgpack` says which process of which run, `owner.json` whether that process still lives,
`end.json` how it ended. The worker writes them; the upload after its death reads them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from nanwatch.contract import frames
from nanwatch.contract.frames import Lane
from nanwatch.link.lock import Claim, Lock
from nanwatch.link.spool import BATCH, DECLARE, HELLO, Lost, SegmentReader

HELLO_FILE, OWNER_FILE, END_FILE = "hello.msgpack", "owner.json", "end.json"
LOCK_FILE = "upload.lock"


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended, in its own words. A killed one leaves none."""

    events: int
    """Last sequence number it gave out."""
    scalars: int
    reason: str = ""
    exit_code: int | None = None
    step: int = -1
    dropped: dict[str, int] | None = None
    """Points it dropped, by reason."""
    lost: dict[str, list[Lost]] = field(default_factory=dict)
    """What it gave up and the server does not know, by lane."""


class Box:
    """One spool directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.owner = Claim(directory / OWNER_FILE)
        self.lock = Lock(directory / LOCK_FILE)

    # --- by the process that fills it ------------------------------------------------------------

    def own(self, hello: frames.Hello, *, mode: str, server: str) -> None:
        """Say whose directory this is. `server`: where the data was meant to go; empty: to the
        user's own. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / HELLO_FILE).write_bytes(frames.encode(hello))
        self.owner.path.write_text(self.owner.text(mode=mode, server=server))

    def ended(self, end: End) -> None:
        """Leave the last word beside what could not be sent. Raises OSError."""
        told = {name: getattr(end, name) for name in End.__slots__}
        (self.directory / END_FILE).write_text(json.dumps(told))

    def remove(self) -> None:
        """Delete the directory once everything is acknowledged; foreign files keep it there."""
        for path in self.directory.glob("*.seg"):
            path.unlink(missing_ok=True)
        for name in (HELLO_FILE, OWNER_FILE, END_FILE, LOCK_FILE):
            (self.directory / name).unlink(missing_ok=True)
        try:
            self.directory.rmdir()
        except OSError:
            pass

    # --- by those who come after -----------------------------------------------------------------

    def hello(self) -> frames.Hello | None:
        """The hello of the process, also from a segment if its own file is damaged."""
        try:
            found = frames.decode_client((self.directory / HELLO_FILE).read_bytes())
            if isinstance(found, frames.Hello):
                return found
        except (OSError, frames.FrameError):
            pass
        for path in reversed(list(self.all_segments())):
            for entry in SegmentReader(path).read():
                if entry.kind != HELLO:
                    break
                try:
                    found = frames.decode_client(entry.payload)
                except frames.FrameError:
                    break
                if isinstance(found, frames.Hello):
                    return found
        return None

    def end(self) -> End | None:
        """How the process ended, if it could say so."""
        try:
            return msgspec.json.decode((self.directory / END_FILE).read_bytes(), type=End)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def is_alive(self) -> bool:
        """True while the process may still write here; its next run has a directory of its own."""
        return self.end() is None and self.owner.is_held()

    def told(self, key: str) -> str:
        """`mode` or `server` of the process; empty if it is not known."""
        return str((self.owner.read() or {}).get(key, ""))

    def segments(self, lane: Lane) -> list[Path]:
        """Segments of a lane, oldest first."""
        return sorted(self.directory.glob(f"{lane}-*.seg"))

    def all_segments(self) -> Iterator[Path]:
        """Segments of both lanes."""
        for lane in frames.LANES:
            yield from self.segments(lane)

    def records(self, lane: Lane) -> Iterator[tuple[frames.Record, dict[int, frames.SeriesDecl]]]:
        """What waits in a lane, decoded and in order, each with all series declared so far.

        Raises `FrameError` for an entry that is whole and no frame.
        """
        declared: dict[int, frames.SeriesDecl] = {}
        for path in self.segments(lane):
            for entry in SegmentReader(path).read():
                if entry.kind not in (DECLARE, BATCH):
                    continue
                frame = frames.decode_client(entry.payload)
                if isinstance(frame, frames.Declare):
                    declared.update({one.id: one for one in frame.series})
                elif isinstance(frame, frames.Batch):
                    for record in frame.records:
                        yield record, declared

    def bytes(self) -> int:
        """Size of what waits."""
        return sum(_size(path) for path in self.all_segments())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def boxes(data_dir: Path) -> list[Box]:
    """Every spool directory of this user under a data directory, oldest first."""
    found: list[tuple[float, Box]] = []
    try:
        entries = list(os.scandir(data_dir / "spool"))
    except OSError:
        return []
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
            mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
            if entry.is_dir(follow_symlinks=False) and mine:
                found.append((status.st_mtime, Box(Path(entry.path))))
        except OSError:
            continue
    return [box for _, box in sorted(found, key=lambda pair: (pair[0], pair[1].directory))]


def describe(box: Box) -> dict[str, Any]:
    """What a listing shows of a directory."""
    hello = box.hello()
    alive = box.is_alive()
    return {
        "directory": box.directory,
        "run": hello.run.id if hello else "",
        "name": hello.run.name if hello else "?",
        "project": hello.run.project if hello else "?",
        "bytes": box.bytes(),
        "alive": alive,
        "mode": box.told("mode"),
        "end": box.end(),
    }
