"""The database itself: connections, pragmas, migrations, transactions.

Reading is in `reads`, writing in `writes`. One connection writes, guarded by a lock (and
checkpoints the WAL); readers have their own, read-only ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)
from sqlalchemy.pool import QueuePool, StaticPool

from nanwatch_server.store.base import StoreUnavailableError
from nanwatch_server.store.lock import DirectoryLock
from nanwatch_server.store.reads import Reads
from nanwatch_server.store.writes import SqlUnit

SCHEMA_VERSION = "0004"
"""The newest migration; when the database has it, alembic (450 ms) is not imported."""

BUSY_TIMEOUT_MS = 5_000
SPARE_PAGES = 1 << 14
"""Free pages kept in the file: 64 MiB."""
SPARE_SHARE = 0.25
FILE_NAME = "nanwatch.sqlite"

_REFUSED = (IntegrityError, DataError, ProgrammingError, InterfaceError)
"""What was asked is wrong; every other error is one of the database (full, locked, damaged)."""


class SqlStore(Reads):
    """Implements `domain.ports.Store` on SQLite in one directory."""

    def __init__(self, data_dir: Path) -> None:
        self._lock_file = DirectoryLock(data_dir)
        try:
            path = data_dir / FILE_NAME
            self._writer = _writing_engine(path)
            _migrate(self._writer)
            path.chmod(0o600)
            super().__init__(_reading_engine(path))
        except BaseException:
            self._lock_file.release()
            raise
        self._write_lock = threading.Lock()
        self._owner: int | None = None

    @contextmanager
    def write(self) -> Iterator[SqlUnit]:
        """One transaction, durable when the block ends; rolled back if it raises."""
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError("a write() block inside another one would wait for itself")
        with self._write_lock:
            self._owner = me
            try:
                with self._writer.begin() as connection:
                    unit = SqlUnit(connection)
                    yield unit
                    unit.flush()
            except _REFUSED:
                raise
            except DBAPIError as error:
                raise StoreUnavailableError(
                    f"cannot write to the database: {error.orig}"
                ) from error
            finally:
                self._owner = None

    def give_back(self, pages: int) -> None:
        """Let the file shrink by up to so many free pages."""
        with self._write_lock, self._writer.connect() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None
            free = driver.execute("PRAGMA freelist_count").fetchone()[0]
            whole = driver.execute("PRAGMA page_count").fetchone()[0]
            # The journal comes and goes: its pages are needed again in a moment.
            if free > max(SPARE_PAGES, whole * SPARE_SHARE):
                driver.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()

    def close(self) -> None:
        """Close all connections and let another server have the directory."""
        with self._write_lock:
            self._readers.dispose()
            self._writer.dispose()
            self._lock_file.release()


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


def _migrate(engine: Engine) -> None:
    """Bring the schema to `SCHEMA_VERSION`."""
    with engine.connect() as db:
        if inspect(db).has_table("alembic_version"):
            known = db.execute(text("SELECT version_num FROM alembic_version")).scalar()
            if known == SCHEMA_VERSION:
                return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as db:
        config.attributes["connection"] = db
        command.upgrade(config, "head")
