"""The store: transactions and migrations, on whichever engine was asked for.

Reading is in `reads`, writing in `writes`; what differs between engines is in `sqlite` and
`postgres`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from nanwatch_server.store.ballast import Ballast
from nanwatch_server.store.base import (
    Database,
    StoreError,
    StoreFailedError,
    StoreUnavailableError,
)
from nanwatch_server.store.lock import DirectoryLock
from nanwatch_server.store.reads import Reads
from nanwatch_server.store.sqlite import FILE_NAME, SqliteDatabase, reading
from nanwatch_server.store.writes import SqlUnit

__all__ = [
    "FILE_NAME",
    "SCHEMA_VERSION",
    "SqlStore",
    "migrate",
    "open_database",
    "reading_database",
]

SCHEMA_VERSION = "0010"
"""The newest migration; when the database has it, alembic (450 ms) is not imported."""

UNFINISHED = "unfinished_move"
"""Table of a database that `move` has not filled yet."""


class SqlStore(Reads):
    """Implements `domain.ports.Store` on SQLite in `data_dir`, or on PostgreSQL at `database`.

    Raises `StoreError` where that cannot be used, `StoreBusyError` where another server does.
    """

    def __init__(self, data_dir: Path, database: str = "") -> None:
        # Beside a PostgreSQL database the directory still holds this server's file and tokens.
        self._beside = DirectoryLock(data_dir) if database else None
        try:
            self._database = open_database(data_dir, database)
        except BaseException:
            if self._beside:
                self._beside.release()
            raise
        self._writer = self._database.writer
        super().__init__(self._database.readers)
        self._ballast = None if database else Ballast(data_dir)
        self.removed: set[str] = set(self.removed_runs())
        """Runs that were deleted: nothing of them is written any more."""
        self.on_failure: Callable[[str], None] = lambda reason: None
        """Called, in the thread that met it, when the disk has failed under a commit."""
        self._failure = ""
        self._write_lock = threading.Lock()
        self._owner: int | None = None

    @contextmanager
    def write(self, *, bulk: bool = False) -> Iterator[SqlUnit]:
        """One transaction, durable when the block ends; rolled back if it raises.

        `bulk`: it may be large and can wait, so that while the disk is full the rest has room.
        """
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError("a write() block inside another one would wait for itself")
        with self._write_lock:
            self._owner = me
            try:
                self._may_write(bulk)
                with self._writer.begin() as connection:
                    unit = SqlUnit(connection, self.removed)
                    yield unit
                    unit.flush()
                self.removed.update(unit.newly_removed)
            except DBAPIError as error:
                if self._database.refused(error):
                    raise
                raise self._trouble(error) from error
            except StoreUnavailableError:
                raise
            except StoreError as error:  # a new connection is not what the first one was
                raise StoreUnavailableError(f"cannot write to the database: {error}") from error
            finally:
                self._owner = None

    def _may_write(self, bulk: bool) -> None:
        if self._failure:
            raise StoreFailedError(self._failure)
        if bulk and self._ballast is not None and not self._ballast.has_room():
            raise StoreUnavailableError("the disk is full: waiting for room")

    def _trouble(self, error: DBAPIError) -> StoreUnavailableError:
        """What an error of the database means to others."""
        said = f"cannot write to the database: {error.orig}"
        if self._ballast is not None:
            failed = self._database.failed(error)
            if self._database.full(error) or (failed and self._ballast.probe()):
                self._ballast.release()
                return StoreUnavailableError(said)
            if failed:
                self._failure = f"the disk failed under the database: {error.orig}"
                self.on_failure(self._failure)
                return StoreFailedError(self._failure)
        return StoreUnavailableError(said)

    def give_back(self, pages: int) -> None:
        """Let files shrink by up to so many free pages."""
        with self._write_lock:
            self._database.give_back(pages)

    @property
    def is_file(self) -> bool:
        """True for SQLite: the database is a file of this machine."""
        return self._ballast is not None

    def close(self) -> None:
        """Close all connections and let another server in."""
        with self._write_lock:
            self._database.close()
            if self._beside:
                self._beside.release()


@contextmanager
def reading_database(data_dir: Path, database: str = "") -> Iterator[Engine]:
    """Connections for reading only, beside a server that may run. Raises `StoreError`."""
    if not database:
        with reading(data_dir) as engine:
            yield engine
        return
    from nanwatch_server.store.postgres import reading_postgres

    with reading_postgres(database) as engine:
        yield engine


def open_database(data_dir: Path, database: str, *, unfinished: bool = False) -> Database:
    """Opened, locked and migrated. Raises `StoreError`.

    `unfinished`: also one into which a move is going on.
    """
    if database:
        from nanwatch_server.store.postgres import PostgresDatabase, is_postgres

        if not is_postgres(database):
            raise StoreError(
                "expected a database like postgresql://user@host/name "
                f"(or none: SQLite in the data directory), got {database.split(':', 1)[0]!r}…"
            )
        opened: Database = PostgresDatabase(database)
    else:
        opened = SqliteDatabase(data_dir)
    try:
        _bring_forward(opened.writer)
        if not unfinished and inspect(opened.writer).has_table(UNFINISHED):
            raise StoreError(
                "a move into this database was not finished: call `nanwatch db move` again, "
                "or use another database"
            )
    except DBAPIError as error:
        opened.close()
        raise StoreUnavailableError(f"the database cannot be prepared: {error.orig}") from error
    except BaseException:
        opened.close()
        raise
    return opened


def _bring_forward(engine: Engine) -> None:
    """Bring the schema to `SCHEMA_VERSION`."""
    with engine.connect() as db:
        if inspect(db).has_table("alembic_version"):
            known = db.execute(text("SELECT version_num FROM alembic_version")).scalar()
            if known == SCHEMA_VERSION:
                return
    with engine.begin() as db:
        migrate(db, "head")


def migrate(db: Connection, version: str) -> None:
    """Run the migrations up to `version`, in the transaction of `db`."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = db
    command.upgrade(config, version)
