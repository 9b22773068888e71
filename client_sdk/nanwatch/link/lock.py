"""Who owns a directory, and a lock that needs no lock of the file system: safe on network disks.

A lock is a file made with O_EXCL that says which process holds it and is touched while it does.
It is stale if that process is gone (same machine) or has not touched it for a minute by the file
server's own clock (another machine). What the locks protect is safe without them (the server
knows what it has); they only keep two uploads from doing the same work.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

STALE_S = 60.0
TOUCH_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one machine, told apart from a later one with the same number."""

    host: str
    pid: int
    started: str
    """Start time as the kernel counts it; empty where the system does not tell."""
    space: str
    """Process-number space: containers on one machine count for themselves."""

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()) or "", _space())

    def lives(self) -> bool | None:
        """Whether it is running; None if that cannot be seen from here."""
        if self.host != socket.gethostname() or self.space != _space():
            return None
        if not is_running(self.pid):
            return False
        started = _started(self.pid)
        return not (self.started and started and started != self.started)


def is_running(pid: int) -> bool:
    """True if a process of this number exists on this machine and is no zombie."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return _started(pid) != "zombie"


def _started(pid: int) -> str | None:
    """Boot and clock tick at which a process began (Linux); None elsewhere."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return "zombie" if fields[0] == "Z" else f"{boot}:{fields[19]}"
    except (OSError, IndexError):
        return None


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


class Claim:
    """A file that says which process holds something, touched while it does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._touched_at = 0.0

    def text(self, **more: object) -> str:
        """What the file says of this process."""
        return json.dumps({**asdict(Process.this()), **more})

    def touch(self) -> None:
        """Say that we are still here, every ten seconds at most."""
        now = time.monotonic()
        if now - self._touched_at >= TOUCH_INTERVAL_S:
            self._touched_at = now
            try:
                os.utime(self.path)
            except OSError:
                pass  # deleted under us: what follows will find out

    def read(self) -> dict[str, object] | None:
        """What the file says, or None if it is not there; {} if it cannot be read."""
        try:
            told = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def is_held(self) -> bool:
        """True if its process lives, or, where that cannot be seen, was here in the last minute."""
        told = self.read()
        if told is None:
            return False
        try:
            process = Process(
                str(told["host"]), int(str(told["pid"])), str(told["started"]), str(told["space"])
            )
            lives = process.lives()
        except (KeyError, ValueError):
            lives = None
        return lives if lives is not None else self.age_s() < STALE_S

    def age_s(self) -> float:
        """Seconds since the file was touched, by the clock of the file system."""
        try:
            touched = self.path.stat().st_mtime
        except OSError:
            return float("inf")
        probe = self.path.with_name(f".clock-{secrets.token_hex(8)}")
        try:
            probe.touch()
            now = probe.stat().st_mtime
            probe.unlink()
        except OSError:
            now = time.time()  # a disk that we may only read
        return now - touched


class Lock(Claim):
    """Taken by `take`, given back by `release` or at the end of a `with` block."""

    held = False

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self) -> bool:
        """True if it is ours now. Raises OSError if the directory cannot be written."""
        if not self._make() and not self.is_held():
            self._take_over()
        return self.held

    def _take_over(self) -> None:
        """One at a time takes a stale lock away, and looks again first: another may have done so
        just now, and the lock that is there be fresh."""
        with Lock(self.path.with_name(f"{self.path.name}.stale")) as alone:
            if alone._make():
                if not self.is_held():
                    self.path.unlink(missing_ok=True)
                    self._make()
            elif alone.age_s() > STALE_S:  # its process died within these few lines
                alone.path.unlink(missing_ok=True)

    def _make(self) -> bool:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(self.text())
        self._touched_at = time.monotonic()
        self.held = True
        return True

    def release(self) -> None:
        """Let others in."""
        if self.held:
            self.held = False
            self.path.unlink(missing_ok=True)
