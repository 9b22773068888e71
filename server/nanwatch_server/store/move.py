"""Copies one database into another, of whichever engine, and compares them (`nanwatch db move`).

Row numbers stay what they are: chunks, axes and marks refer to them. No server may run on either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Row, Table, delete, func, inspect, select, text

from nanwatch_server.store import tables as t
from nanwatch_server.store.base import Database, StoreError
from nanwatch_server.store.postgres import is_postgres, shown
from nanwatch_server.store.sql import UNFINISHED, open_database
from nanwatch_server.store.sqlite import FILE_NAME

BATCH_ROWS = 500
"""Rows of one transaction: of chunks about 10 MB."""

MASK = (1 << 128) - 1

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many rows are done, and of how many."""


@dataclass
class Moved:
    """What was copied."""

    rows: dict[str, int] = field(default_factory=dict)
    """Rows of each table."""
    runs: int = 0


def move_database(source: str, target: str, progress: Progress = lambda *_: None) -> Moved:
    """Copy everything and compare. Each of both: a data directory or `postgresql://…`.

    Called again after it was cut short it goes on. Raises `StoreError`: a place is in use, the
    target holds something else, or both differ at the end.
    """
    if not is_postgres(source) and not (_directory(source) / FILE_NAME).is_file():
        raise StoreError(f"expected a database to move, got {source}: there is no {FILE_NAME}")
    src = _open(source, unfinished=False)
    try:
        dst = _open(target, unfinished=True)
        try:
            return _move(src, dst, shown(source) if is_postgres(source) else source, progress)
        finally:
            dst.close()
    finally:
        src.close()


def _directory(place: str) -> Path:
    path = Path(place).expanduser().absolute()
    return path.parent if path.name == FILE_NAME else path


def _open(place: str, *, unfinished: bool) -> Database:
    if is_postgres(place):
        return open_database(Path(), place, unfinished=unfinished)
    return open_database(_directory(place), "", unfinished=unfinished)


def _move(src: Database, dst: Database, name: str, progress: Progress) -> Moved:
    _begin(dst, name)
    with src.readers.connect() as db:
        moved = Moved({table.name: _count(db, table) for table in _tables()})
        moved.runs = moved.rows["runs"]
    whole, done = sum(moved.rows.values()), 0
    for table in _tables():
        for rows in _copied(src, dst, table):
            done += rows
            progress("copying", done, whole)
    with src.writer.connect() as db:
        numbers = _numbers(db)
    with dst.writer.begin() as db:
        _set_numbers(db, numbers)
    _compare(src, dst, whole, progress)
    with dst.writer.begin() as db:
        db.execute(text(f"DROP TABLE {UNFINISHED}"))
    return moved


def _tables() -> list[Table]:
    return list(t.metadata.tables.values())


def _count(db: Connection, table: Table) -> int:
    return db.execute(select(func.count()).select_from(table)).scalar_one()


def _begin(dst: Database, name: str) -> None:
    """Mark the target, so that no server starts on half of the data."""
    with dst.writer.begin() as db:
        if inspect(db).has_table(UNFINISHED):
            known = db.execute(text(f"SELECT source FROM {UNFINISHED}")).scalar()
            if known != name:
                raise StoreError(
                    f"a move of another database ({known}) into this one was not finished: "
                    "finish that, or use an empty database"
                )
            return
        filled = [table.name for table in _tables() if _count(db, table)]
        if filled:
            raise StoreError(
                f"expected an empty database to move into, got one with {', '.join(filled)}"
            )
        db.execute(text(f"CREATE TABLE {UNFINISHED} (source TEXT NOT NULL)"))
        db.execute(text(f"INSERT INTO {UNFINISHED} VALUES (:name)"), {"name": name})


def _copied(src: Database, dst: Database, table: Table) -> Iterator[int]:
    """Copy what is missing; yields how many rows are there since the last time."""
    if "n" not in table.c:  # small ones without a number: anew
        with src.readers.connect() as db, dst.writer.begin() as into:
            into.execute(delete(table))
            for rows in db.execute(select(table)).partitions(BATCH_ROWS):
                into.execute(table.insert(), [dict(row._mapping) for row in rows])
                yield len(rows)
        return
    with dst.writer.connect() as db:
        last = db.execute(select(func.max(table.c.n))).scalar() or 0
        yield _count(db, table)
    while True:
        query = select(table).where(table.c.n > last).order_by(table.c.n).limit(BATCH_ROWS)
        with src.readers.connect() as db:
            rows = db.execute(query).all()
        if not rows:
            return
        with dst.writer.begin() as db:
            db.execute(table.insert(), [dict(row._mapping) for row in rows])
        last = rows[-1].n
        yield len(rows)


# --- numbers that will be given next ------------------------------------------------------------


def _numbers(db: Connection) -> dict[str, int]:
    """Table → the last number that was given, also to rows that are gone."""
    given = {}
    for table in _tables():
        if "n" in table.c:
            given[table.name] = db.execute(select(func.max(table.c.n))).scalar() or 0
            if db.dialect.name == "postgresql":
                last = text(f"SELECT last_value FROM {table.name}_n_seq WHERE is_called")
            else:
                last = text(f"SELECT seq FROM sqlite_sequence WHERE name = '{table.name}'")
            given[table.name] = max(given[table.name], db.execute(last).scalar() or 0)
    return given


def _set_numbers(db: Connection, numbers: dict[str, int]) -> None:
    for name, last in numbers.items():
        if db.dialect.name == "postgresql":
            if last:
                db.execute(text(f"SELECT setval('{name}_n_seq', {last})"))
        elif t.metadata.tables[name].dialect_options["sqlite"]["autoincrement"]:
            db.execute(text(f"DELETE FROM sqlite_sequence WHERE name = '{name}'"))
            db.execute(text(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('{name}', {last})"))


# --- comparison ---------------------------------------------------------------------------------


def _compare(src: Database, dst: Database, whole: int, progress: Progress) -> None:
    """Every table, and in it every run, must have the same number and sum of rows."""
    done = 0
    for table in _tables():
        found: list[dict[str, tuple[int, int]]] = []
        for place in (src, dst):
            sums: dict[str, tuple[int, int]] = {}
            for rows in _rows(place, table):
                for row in rows:
                    run = str(row._mapping.get("run_id", ""))
                    count, total = sums.get(run, (0, 0))
                    sums[run] = count + 1, (total + _checksum(row)) & MASK
                done += len(rows)
                progress("comparing", done, 2 * whole)
            found.append(sums)
        if found[0] != found[1]:
            runs = [one for one in {*found[0], *found[1]} if found[0].get(one) != found[1].get(one)]
            raise StoreError(
                f"{table.name} differs after the move (run {min(runs) or 'of none'}; "
                f"{len(runs)} in all): the source has changed since the move began, or a disk "
                "has. Move into another, empty database"
            )


def _rows(place: Database, table: Table) -> Iterator[list[Row]]:
    with place.readers.connect() as db:
        if "n" not in table.c:
            yield list(db.execute(select(table)).all())
            return
        last = 0
        while True:
            query = select(table).where(table.c.n > last).order_by(table.c.n).limit(BATCH_ROWS)
            rows = list(db.execute(query).all())
            if not rows:
                return
            yield rows
            last = rows[-1].n


def _checksum(row: Row) -> int:
    """Of the values bit for bit; sums of them do not depend on an order that engines differ in."""
    packed = msgspec.msgpack.encode(tuple(row))
    return int.from_bytes(hashlib.blake2b(packed, digest_size=16).digest(), "little")
