"""What every store promises, and the errors it raises; `domain.ports` has the methods.

1. A `write()` block is one transaction: all or nothing, on disk when the block ends.
2. The same batch twice changes nothing the second time: one high-water mark per lane, for ever.
3. Values come back bit for bit: NaN payloads, infinities, -0.0 and subnormals included.
4. The audit is a hash chain: a changed or missing row is found by `audit_break`.
5. One server per data directory and per database.
6. A disk that fails under a commit ends the store (`StoreFailedError`); a full one only stops what
   is `bulk`, and small things are written into a reserve.
7. What the database refuses (`Database.refused`) is refused alone; everything else is tried again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.exc import DBAPIError


class StoreError(RuntimeError):
    """Something is wrong with the data directory; the text says what and what to do."""


class StoreBusyError(StoreError):
    """Another server holds the data directory or the database."""


class StoreUnavailableError(StoreError):
    """The database cannot be used now (disk full, locked, connection lost): try again later."""


class StoreFailedError(StoreUnavailableError):
    """The disk has failed under a commit: nothing can be trusted until the database is opened
    anew, so the process must end."""


class RunRemovedError(ValueError):
    """The run was deleted from this server; nothing of it is stored any more."""


class Database(Protocol):
    """What differs between engines: `sqlite.SqliteDatabase` and `postgres.PostgresDatabase`.

    Made by its constructor, which also takes the lock that keeps a second server out.
    """

    writer: Engine
    """One connection, used under the store's lock."""
    readers: Engine
    """Connections for reading only."""

    def refused(self, error: DBAPIError) -> bool:
        """True if what was asked is wrong; False if the database has a trouble that may pass."""
        ...

    def full(self, error: DBAPIError) -> bool:
        """True if there was no room on our own disk."""
        ...

    def failed(self, error: DBAPIError) -> bool:
        """True if our own disk failed under a write or sync: nothing can be trusted any more."""
        ...

    def give_back(self, pages: int) -> None:
        """Let files shrink by up to so many free pages. Called under the store's lock."""
        ...

    def close(self) -> None:
        """Close all connections and let another server in."""
        ...
