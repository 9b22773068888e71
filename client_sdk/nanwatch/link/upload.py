"""Sends what processes left behind: spools of dead runs, and of live ones that work offline.

The same frames over the same socket as live delivery; the server's high-water marks make it exactly
once, whoever sends and however often. Used by `nanwatch sync` and, slowly, by the next run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from nanwatch.contract import frames
from nanwatch.contract.frames import LANES, Lane
from nanwatch.contract.limits import PROTOCOL_VERSION
from nanwatch.link.box import Box, End, boxes
from nanwatch.link.connection import Connection, Refused
from nanwatch.link.lock import TOUCH_INTERVAL_S
from nanwatch.link.outbox import gaps
from nanwatch.link.spool import BATCH, DECLARE, HELLO, Kept, SegmentReader

logger = logging.getLogger("nanwatch")

ANSWER_TIMEOUT_S = 30.0
TRIES = 5
RETRY_S = 1.0
BACKGROUND_BYTES_PER_S = 2 << 20
BACKGROUND_DELAY_S = 5.0
"""The run's own data goes first."""


class UploadError(RuntimeError):
    """This directory cannot be sent; the text says what was expected and what came."""


class Stopped(Exception):
    """Someone asked the upload to end."""


@dataclass(slots=True)
class Sent:
    """What became of one directory."""

    frames: int = 0
    bytes: int = 0
    gaps: int = 0
    """Sequence numbers that were lost before and are declared as such."""
    damaged: int = 0
    """Bytes in segments that belong to no whole frame."""
    foreign: list[str] = field(default_factory=list)
    """Segments of another process, set aside."""
    rejected: list[str] = field(default_factory=list)
    url: str = ""
    complete: bool = False
    """Everything is stored and the process has ended."""


Progress = Callable[[int], None]
"""Called with the number of bytes read so far."""


class Upload:
    """One directory to one server. One thread."""

    def __init__(
        self,
        box: Box,
        server: str,
        token: str,
        *,
        keep: bool = False,
        progress: Progress = lambda read: None,
        stopped: Callable[[], bool] = lambda: False,
        bytes_per_s: float = float("inf"),
    ) -> None:
        self._box, self._server, self._token = box, server, token
        self._keep, self._progress, self._stopped = keep, progress, stopped
        self._rate = bytes_per_s
        self.sent = Sent()

    def run(self, *, follow_s: float = 0.0) -> Sent:
        """Send all there is; with `follow_s` look again that often until the process has ended.

        Raises `UploadError`, `Refused` (the server will not have us), OSError (no server).
        """
        hello = self._box.hello()
        if hello is None:
            raise UploadError(
                f"expected {self._box.directory / 'hello.msgpack'} or a whole segment to say which "
                "run this is; neither can be read"
            )
        for attempt in range(TRIES):
            try:
                _Session(self, hello).run(follow_s)
                break
            except (Refused, Stopped, UploadError):
                raise
            except Exception as error:
                # The server ended, or another upload of the same process took over: from the marks.
                if attempt == TRIES - 1:
                    raise
                logger.debug("nanwatch: upload begins again: %s", error)
                self._sleep(RETRY_S * (attempt + 1))
        if self.sent.complete and not self._keep:
            self._box.remove()
        return self.sent

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopped():
                raise Stopped
            time.sleep(min(left, 0.1))


class _Session:
    """One connection of an upload."""

    def __init__(self, upload: Upload, hello: frames.Hello) -> None:
        self._upload, self._hello = upload, hello
        self._box, self._sent = upload._box, upload.sent
        self._readers: dict[Path, SegmentReader] = {}
        self._pending: dict[Lane, deque[int]] = {lane: deque() for lane in LANES}
        self._next: dict[Lane, int] = dict.fromkeys(LANES, 0)
        self._declared: set[bytes] = set()
        self._credit = 1
        self._read = 0
        self._began = time.monotonic()

    def run(self, follow_s: float) -> None:
        self._line = Connection(self._upload._server, self._upload._token)
        try:
            self._greet()
            while True:
                ended = not self._box.is_alive()  # asked first: what it wrote last is read
                for lane in LANES:
                    self._send_lane(lane, ended)
                self._settle()
                if ended:
                    self._finish(self._box.end())
                    return
                if not follow_s:
                    return
                self._upload._sleep(follow_s)
        finally:
            self._line.close()

    def _greet(self) -> None:
        none = frames.Span(0, -1)
        self._line.send(
            msgspec.structs.replace(
                self._hello,
                proto=[PROTOCOL_VERSION],
                wall=time.time(),
                events=none,
                scalars=none,
                control=None,  # nobody may command a process that does not listen
            )
        )
        welcome = self._await(frames.Welcome)
        assert isinstance(welcome, frames.Welcome)
        self._credit = max(1, welcome.credit)
        self._next = {"events": welcome.events + 1, "scalars": welcome.scalars + 1}
        self._sent.url = welcome.url

    # --- sending ---------------------------------------------------------------------------------

    def _send_lane(self, lane: Lane, ended: bool) -> None:
        for path in self._in_order(lane):
            reader = self._readers.setdefault(path, SegmentReader(path))
            before = reader.damaged
            for entry in reader.read(salvage=ended):
                if entry.kind == HELLO and self._is_foreign(entry):
                    self._set_aside(path)
                    break
                self._send(lane, entry)
            self._sent.damaged += reader.damaged - before

    def _in_order(self, lane: Lane) -> Iterator[Path]:
        """Segments by what they hold, not by name: a copy under another number does no harm."""
        firsts: list[tuple[int, Path]] = []
        for path in self._box.segments(lane):
            entries = SegmentReader(path).read(salvage=True)
            first = next((entry.first for entry in entries if entry.kind == BATCH), -1)
            firsts.append((first, path))
        return (path for _, path in sorted(firsts))

    def _is_foreign(self, entry: Kept) -> bool:
        try:
            hello = frames.decode_client(entry.payload)
        except frames.FrameError:
            return True
        # Not the run: a rank learns the common run id after its first segment.
        return not isinstance(hello, frames.Hello) or hello.epoch != self._hello.epoch

    def _set_aside(self, path: Path) -> None:
        self._sent.foreign.append(path.name)
        try:
            path.rename(path.with_suffix(".foreign"))
        except OSError:
            pass  # a disk that we may only read

    def _send(self, lane: Lane, entry: Kept) -> None:
        self._read += len(entry.payload)
        self._upload._progress(self._read)
        self._breathe()
        if entry.kind == DECLARE:
            if entry.payload not in self._declared:
                self._declared.add(entry.payload)
                self._line.send_bytes(entry.payload)
            return
        if entry.kind != BATCH or entry.last < self._next[lane]:
            return
        if entry.first > self._next[lane]:
            self._gap(lane, entry.first - 1)
        self._wait_for_credit()
        self._line.send_bytes(entry.payload)
        self._pending[lane].append(entry.last)
        self._next[lane] = entry.last + 1
        self._sent.frames += 1
        self._sent.bytes += len(entry.payload)

    def _gap(self, lane: Lane, last: int) -> None:
        first, end = self._next[lane], self._box.end()
        given_up = end.lost.get(lane, []) if end is not None else []
        for gap in gaps(lane, first, last, given_up):
            self._wait_for_credit()
            self._line.send(gap)
            self._pending[lane].append(gap.last)
        self._next[lane] = last + 1
        self._sent.gaps += last - first + 1

    def _breathe(self) -> None:
        """Keep the lock, obey a stop, and stay below the wished rate."""
        self._box.lock.touch()
        if self._upload._stopped():
            raise Stopped
        ahead = self._read / self._upload._rate - (time.monotonic() - self._began)
        if ahead > 0:
            self._upload._sleep(min(ahead, TOUCH_INTERVAL_S))

    # --- answers ---------------------------------------------------------------------------------

    def _wait_for_credit(self) -> None:
        while sum(map(len, self._pending.values())) >= self._credit:
            self._await()

    def _settle(self) -> None:
        """Wait until everything sent is durable."""
        while any(self._pending.values()):
            self._await()

    def _await(self, kind: type | None = None) -> frames.ServerFrame:
        """The next frame, taken in. Raises TimeoutError if the server says nothing."""
        until = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < until:
            if self._upload._stopped():
                raise Stopped
            frame = self._line.receive(0.2)
            if frame is None:
                self._box.lock.touch()
                continue
            if isinstance(frame, frames.Slow):
                until = (
                    time.monotonic() + ANSWER_TIMEOUT_S
                )  # its disk is full: it keeps what it has
            self._take(frame)
            if kind is None or isinstance(frame, kind):
                return frame
        raise TimeoutError(f"expected an answer of the server within {ANSWER_TIMEOUT_S:.0f} s")

    def _take(self, frame: frames.ServerFrame) -> None:
        if isinstance(frame, frames.Ack):
            waiting = self._pending[frame.lane]
            while waiting and waiting[0] <= frame.upto:
                waiting.popleft()
            self._credit = max(1, frame.credit)
        elif isinstance(frame, frames.Reject) and len(self._sent.rejected) < 20:
            self._sent.rejected.append(f"{frame.code}: {frame.message}")

    def _finish(self, end: End | None) -> None:
        """Declare what never reached the disk, and say how the process ended if it did say so."""
        if end is not None:
            last: dict[Lane, int] = {"events": end.events, "scalars": end.scalars}
            for lane in LANES:
                if last[lane] >= self._next[lane]:
                    self._gap(lane, last[lane])
            self._settle()
            self._line.send(frames.Beat(step=end.step, wall=time.time(), dropped=end.dropped or {}))
            self._line.send(
                frames.Bye(
                    events=end.events,
                    scalars=end.scalars,
                    reason=end.reason,
                    exit_code=end.exit_code,
                )
            )
        self._sent.complete = True


class Leftovers:
    """Sends what earlier, dead runs of this user left, slowly, while a later run goes on."""

    def __init__(self, data_dir: Path, own: Path) -> None:
        self._data_dir, self._own = data_dir, own
        self._stopping = threading.Event()
        self._begun = False

    def start(self, server: str, token: str, meant_for: str) -> None:
        """Begin once. Only what was meant for this server: `meant_for` is empty for the user's
        own, else its address."""
        if self._begun:
            return
        self._begun = True
        thread = threading.Thread(
            target=self._main,
            args=(server, token, meant_for),
            name="nanwatch-leftovers",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:  # no room for one more: the next run does it
            logger.debug("nanwatch: leftovers stay for later: %s", error)

    def stop(self) -> None:
        """The run ends; what is left is sent by the next one."""
        self._stopping.set()

    def _main(self, server: str, token: str, meant_for: str) -> None:
        if self._stopping.wait(BACKGROUND_DELAY_S):
            return
        for box in boxes(self._data_dir):
            if box.directory == self._own or box.told("server") != meant_for:
                continue
            try:
                self._one(box, server, token)
            except (Stopped, Refused):
                return
            except Exception as error:
                logger.debug("nanwatch: %s stays for later: %s", box.directory, error)

    def _one(self, box: Box, server: str, token: str) -> None:
        if box.is_alive() or box.hello() is None:
            return
        with box.lock as lock:
            if lock.take():
                upload = Upload(
                    box,
                    server,
                    token,
                    stopped=self._stopping.is_set,
                    bytes_per_s=BACKGROUND_BYTES_PER_S,
                )
                upload.run()
