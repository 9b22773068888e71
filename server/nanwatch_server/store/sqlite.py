"""SQLite in one directory: connections, pragmas, its lock. Made by `sql.SqlStore`.

One connection writes, guarded by the store's lock (and checkpoints the WAL); readers have their
own, read-only ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)
from sqlalchemy.pool import QueuePool, StaticPool

from nanwatch_server.store.base import StoreError
from nanwatch_server.store.lock import DirectoryLock

BUSY_TIMEOUT_MS = 5_000
SPARE_PAGES = 1 << 14
"""Free pages kept in the file: 64 MiB."""
SPARE_SHARE = 0.25
FILE_NAME = "nanwatch.sqlite"

_FAILED = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_IOERR_DIR_FSYNC,
    sqlite3.SQLITE_IOERR_TRUNCATE,
    sqlite3.SQLITE_IOERR_CLOSE,
)
"""After a failed sync the pages count as written though they are not: a second sync would succeed
and mean nothing."""

_REFUSED = (IntegrityError, DataError, ProgrammingError, InterfaceError)
"""What was asked is wrong; every other error is one of the database (full, locked, damaged)."""


class SqliteDatabase:
    """Implements `base.Database`."""

    def __init__(self, data_dir: Path) -> None:
        self._lock_file = DirectoryLock(data_dir)
        path = data_dir / FILE_NAME
        try:
            self.writer = _writing_engine(path)
            with self.writer.connect():  # makes the file
                path.chmod(0o600)
            self.readers = _reading_engine(path)
        except BaseException:
            self._lock_file.release()
            raise

    def refused(self, error: DBAPIError) -> bool:
        """By its kind."""
        return isinstance(error, _REFUSED)

    def full(self, error: DBAPIError) -> bool:
        """No room on the disk."""
        return _code(error) == sqlite3.SQLITE_FULL

    def failed(self, error: DBAPIError) -> bool:
        """A write, sync or truncation that the disk did not do."""
        return _code(error) in _FAILED

    def give_back(self, pages: int) -> None:
        """Free pages at the end of the file go back to the disk."""
        with self.writer.connect() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None
            free = driver.execute("PRAGMA freelist_count").fetchone()[0]
            whole = driver.execute("PRAGMA page_count").fetchone()[0]
            # The journal comes and goes: its pages are needed again in a moment.
            if free > max(SPARE_PAGES, whole * SPARE_SHARE):
                driver.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

    def close(self) -> None:
        """Readers first: the writer's last connection folds the WAL into the file."""
        self.readers.dispose()
        self.writer.dispose()
        self._lock_file.release()


@contextmanager
def reading(data_dir: Path) -> Iterator[Engine]:
    """Connections for reading only, beside a server that may run. Raises `StoreError`."""
    path = data_dir / FILE_NAME
    if not path.is_file():
        raise StoreError(f"expected a database in {data_dir}, found no {FILE_NAME}")
    engine = _reading_engine(path)
    try:
        yield engine
    except DBAPIError as error:
        raise StoreError(f"the database in {data_dir} cannot be read: {error.orig}") from error
    finally:
        engine.dispose()


def _code(error: DBAPIError) -> int:
    return getattr(error.orig, "sqlite_errorcode", 0)


def _writing_engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection, _record) -> None:
        # The driver's own transactions start deferred, which fails on upgrade to a write lock.
        connection.isolation_level = None
        # Counts only before the first table: older files shrink by `nanwatch db vacuum`.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")

    @event.listens_for(engine, "begin")
    def begin(connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _reading_engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=f"file:{path}", query={"mode": "ro", "uri": "true"}),
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=24,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection, _record) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA query_only=ON")

    return engine
