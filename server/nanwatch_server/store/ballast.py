"""A reserved file, given up when the disk is full, so that small things can still be written.

Commands, audit and incidents are small; what trainings send is not, and waits until there is room
again. Used by `sql.SqlStore` beside a SQLite file.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import structlog

_log = structlog.get_logger()

FILE_NAME = "ballast"
BYTES = 16 << 20
MARGIN_BYTES = 16 << 20
"""So much must be free beside the ballast before large things are written again."""

FULL = (errno.ENOSPC, errno.EDQUOT)


class Ballast:
    """Not thread-safe: used under the store's lock."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self.full = False
        """True from the first write that found no room until there is some again."""
        self._make()

    def _make(self) -> bool:
        try:
            if self._path.exists() and self._path.stat().st_size >= BYTES:
                return True
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BYTES)
            finally:
                os.close(descriptor)
            return True
        except OSError as error:
            with suppress(OSError):
                self._path.unlink()
            _log.warning("no room for the reserve of 16 MiB beside the database", error=str(error))
            return False

    def release(self) -> None:
        """A write found the disk full: make room for small things."""
        if not self.full:
            _log.error("the disk is full: what trainings send waits, commands still work")
        self.full = True
        with suppress(OSError):
            self._path.unlink()

    def has_room(self) -> bool:
        """True if large things may be written; then the reserve is there again."""
        if not self.full:
            return True
        space = os.statvfs(self._path.parent)
        if space.f_bavail * space.f_frsize < BYTES + MARGIN_BYTES or not self._make():
            return False
        self.full = False
        _log.warning("there is room on the disk again")
        return True

    def probe(self) -> bool:
        """True if the file system has no room (or quota) for us: a write failed with no reason."""
        path = self._path.with_suffix(".probe")
        try:
            with path.open("wb") as file:
                file.write(bytes(1 << 16))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return error.errno in FULL
        finally:
            with suppress(OSError):
                path.unlink()
        return False
