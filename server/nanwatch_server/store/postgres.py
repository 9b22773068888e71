"""PostgreSQL by psycopg 3: connections, what is refused at start, its lock. Made by `sql.SqlStore`.

One connection writes. It also holds the advisory lock that keeps a second server out, so that a
transaction can only be committed by a server that holds the lock, also after a lost connection.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool

from nanwatch_server.store.base import StoreBusyError, StoreError, StoreUnavailableError

LOCK = 0x6E616E77
"""First half of the advisory lock's key, "nanw"; the other is the schema's name, hashed."""

LOCK_WAIT_S = 2.0
"""PostgreSQL notices a moment later that the program which held the lock is gone."""

SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")

CONNECT: dict[str, Any] = {
    "connect_timeout": 10,
    # A host that is gone without a word is noticed within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}

_REFUSED = ("21", "22", "23", "25P02", "42804", "42846", "54")
"""SQLSTATEs (PostgreSQL manual, appendix A) by which a record is at fault: data exceptions, broken
constraints, wrong types, too large for an index. Everything else, a missing permission or a server
that became read-only included, is a trouble of the database and tried again."""


def is_postgres(database: str) -> bool:
    """True if `database` is the address of a PostgreSQL database."""
    return database.split(":", 1)[0].lower() in SCHEMES


def shown(database: str) -> str:
    """The address without its password."""
    return _url(database).set(drivername="postgresql").render_as_string(hide_password=True)


class PostgresDatabase:
    """Implements `base.Database`. Raises `StoreError` where durability is switched off."""

    def __init__(self, database: str) -> None:
        url = _url(database)
        try:
            import psycopg  # noqa: F401  (SQLAlchemy imports it by name)
        except ImportError as error:
            raise StoreError(
                "PostgreSQL needs the extra `postgres`: pip install 'nanwatch[server,postgres]'"
            ) from error
        self.writer = _writing_engine(url)
        self.readers = _reading_engine(url)
        try:
            with self.writer.connect():
                pass
        except DBAPIError as error:
            self.close()
            raise StoreUnavailableError(f"cannot reach {shown(database)}: {error.orig}") from error
        except BaseException:
            self.close()
            raise

    def refused(self, error: DBAPIError) -> bool:
        """By its SQLSTATE; NUL in text is refused by the driver, which gives none."""
        if error.connection_invalidated:
            return False
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            return type(error.orig).__name__ == "DataError"
        return state.startswith(_REFUSED)

    def full(self, error: DBAPIError) -> bool:
        """Its disk is not ours: no reserve of ours would help."""
        return False

    def failed(self, error: DBAPIError) -> bool:
        """PostgreSQL ends by itself (PANIC) when a sync fails."""
        return False

    def give_back(self, pages: int) -> None:
        """Autovacuum does it."""

    def close(self) -> None:
        """The lock goes with the writer's connection."""
        self.readers.dispose()
        self.writer.dispose()


@contextmanager
def reading_postgres(database: str) -> Iterator[Engine]:
    """Connections for reading only, beside a server that may run. Raises `StoreError`."""
    engine = _reading_engine(_url(database))
    try:
        yield engine
    except DBAPIError as error:
        raise StoreError(f"{shown(database)} cannot be read: {error.orig}") from error
    finally:
        engine.dispose()


def _url(database: str) -> URL:
    try:
        url = make_url(database)
    except ArgumentError as error:
        raise StoreError(
            "expected the address of a database like postgresql://user@host/name; "
            "what was given cannot be read"
        ) from error
    return url.set(drivername="postgresql+psycopg")


def _writing_engine(url: URL) -> Engine:
    name = f"nanwatch server, pid {os.getpid()} on {socket.gethostname()}"
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        use_native_hstore=False,
        connect_args={**CONNECT, "application_name": name[:63]},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection, _record) -> None:
        with connection.cursor() as cursor:
            _check(cursor)
            _lock(cursor)
        connection.commit()

    return engine


def _reading_engine(url: URL) -> Engine:
    import psycopg

    class BinaryCursor(psycopg.Cursor):
        """Blobs come as they are and not in hexadecimal digits."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.format = psycopg.pq.Format.BINARY

    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=24,
        pool_pre_ping=True,
        use_native_hstore=False,
        isolation_level="AUTOCOMMIT",
        connect_args={
            **CONNECT,
            "application_name": "nanwatch reader",
            "cursor_factory": BinaryCursor,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(connection, _record) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        connection.commit()

    @event.listens_for(engine, "handle_error", retval=True)
    def told(context: ExceptionContext) -> BaseException | None:
        error = context.sqlalchemy_exception
        if isinstance(error, DBAPIError) and type(error.orig).__name__ != "DataError":
            return StoreUnavailableError(f"cannot read the database: {error.orig}")
        return None

    return engine


def _check(cursor: Any) -> None:
    """Refuse a database that would lose what it has confirmed, or garble text."""
    found = {}
    for name in ("synchronous_commit", "fsync", "server_encoding"):
        found[name] = cursor.execute(f"SHOW {name}").fetchone()[0]
    for name in ("synchronous_commit", "fsync"):
        if found[name] == "off":
            raise StoreError(
                f"PostgreSQL is set to {name}=off: it confirms what a power cut then takes away. "
                f"Set it to on, for example: ALTER DATABASE … SET synchronous_commit = on"
                if name == "synchronous_commit"
                else "PostgreSQL is set to fsync=off: a power cut would destroy the database. "
                "Set fsync = on in postgresql.conf"
            )
    if found["server_encoding"] != "UTF8":
        raise StoreError(
            f"expected a database with encoding UTF8, got {found['server_encoding']}: "
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    # From now on a change of the server's settings does not reach this connection.
    cursor.execute(f"SET synchronous_commit = {found['synchronous_commit']}")


def _lock(cursor: Any) -> None:
    """Take the advisory lock, or say who has it. Another schema is another database."""
    key, until = (LOCK,), time.monotonic() + LOCK_WAIT_S
    query = "SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))"
    while not cursor.execute(query, key).fetchone()[0]:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    else:
        return
    holder = cursor.execute(
        "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.classid = %s AND l.granted"
        " AND l.objid = ((hashtext(current_schema())::bigint + 4294967296) %% 4294967296)::oid"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        key,
    ).fetchone()
    raise StoreBusyError(
        f"the database is in use by another program ({holder[0] if holder else 'unknown'}): "
        "stop it, or choose another database with --database"
    )
