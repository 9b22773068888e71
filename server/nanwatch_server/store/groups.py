"""Many rows in one statement, for what every group commit does. Called by `writes` only.

SQLAlchemy's `executemany` steps a statement once a row. On SQLite each step lets go of Python's
interpreter lock and waits to have it back, behind whatever thread computes: with a hundred rows in
a commit that was most of the time until its acknowledgement. Here names are ours and values are
bound, so nothing needs quoting; columns must be of plain types (no `FreeText`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

VALUES_MOST = 8_000
"""Bound values of one statement; SQLite takes 32,766 (before 3.32: 999), PostgreSQL 65,535."""

BYTES_MOST = 8 << 20
"""Blobs of one statement, about."""


def insert(
    db: Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    conflict: str = "",
) -> None:
    """Insert all rows; `conflict` is the statement's `ON CONFLICT` clause."""
    names = ", ".join(f'"{name}"' for name in columns)
    for some in _portions(rows, len(columns)):
        values = _values(db, len(some), len(columns))
        bound = tuple(value for row in some for value in row)
        db.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES {values} {conflict}", bound)


def select(
    db: Connection,
    table: str,
    columns: Sequence[str],
    key: Sequence[str],
    places: Sequence[tuple[Any, ...]],
) -> Iterator[tuple[Any, ...]]:
    """`columns` of the rows whose `key` is one of `places`, which must differ from each other."""
    names = ", ".join(f"{table}.{name}" for name in columns)
    same = " AND ".join(f"{table}.{name} = wanted.{name}" for name in key)
    for some in _portions(places, len(key)):
        values = _values(db, len(some), len(key))
        bound = tuple(value for place in some for value in place)
        query = (
            f"WITH wanted({', '.join(key)}) AS (VALUES {values}) "
            f"SELECT {names} FROM wanted JOIN {table} ON {same}"
        )
        yield from (tuple(row) for row in db.exec_driver_sql(query, bound).all())


def _values(db: Connection, rows: int, columns: int) -> str:
    mark = "?" if db.dialect.paramstyle == "qmark" else "%s"
    one = f"({', '.join([mark] * columns)})"
    return ", ".join([one] * rows)


def _portions(rows: Sequence[tuple[Any, ...]], columns: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    most, first, size = VALUES_MOST // columns, 0, 0
    for at, row in enumerate(rows):
        if at - first >= most or (size > BYTES_MOST and at > first):
            yield rows[first:at]
            first, size = at, 0
        size += sum(len(value) for value in row if isinstance(value, bytes))
    if first < len(rows):
        yield rows[first:]
