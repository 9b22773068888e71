"""One server per data directory: a lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from nanwatch_server.store.base import StoreBusyError, StoreError


class DirectoryLock:
    """Held from construction to `release`. A lock left by a dead process does not count."""

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
        except OSError as error:
            raise StoreError(
                f"expected a data directory we may write to, got {directory}: {error}; "
                "choose another one with --data-dir"
            ) from error
        self.path = directory / "server.lock"
        # 'a+' neither truncates the holder's pid nor races two creators.
        self._file = open(self.path, "a+")  # noqa: SIM115  (held as long as the lock)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            pid = self._file.read().strip() or "unknown"
            self._file.close()
            raise StoreBusyError(
                f"the data directory {directory} is in use by a nanwatch server with pid {pid}: "
                "stop it, or choose another one with --data-dir"
            ) from error
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let another server in."""
        self._file.close()
