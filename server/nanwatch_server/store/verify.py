"""Looks at every row that holds points or proofs: does it decode, and does it fit the others.

Reads one moment of the database, also while a server runs. Used by `nanwatch db verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Table, func, select

from nanwatch.contract.frames import Batch, FrameError, decode_client, table_shape
from nanwatch.contract.frames import Table as Points
from nanwatch_server.domain.audit_chain import first_break
from nanwatch_server.store import tables as t
from nanwatch_server.store.chunks import CHUNK_POINTS, DROPPED
from nanwatch_server.store.codec import CodecError, unpack_axis, unpack_values
from nanwatch_server.store.pyramid import reach, unpack_summary
from nanwatch_server.store.sqlite import reading

Progress = Callable[[str, int, int], None]

ROWS_AT_ONCE = 200
PROBLEMS_MOST = 1_000
"""More are only counted."""


@dataclass
class Verified:
    """What was looked at, and what is wrong with it."""

    rows: dict[str, int] = field(default_factory=dict)
    points: int = 0
    dropped: int = 0
    """Points of which only summaries are left."""
    problems: list[str] = field(default_factory=list)
    more: int = 0

    def bad(self, what: str) -> None:
        """Note a problem."""
        if len(self.problems) < PROBLEMS_MOST:
            self.problems.append(what)
        else:
            self.more += 1


def verify(engine: Engine, progress: Progress = lambda *_: None) -> Verified:
    """Everything. Problems are in the result; an unreadable database raises."""
    result = Verified()
    with one_moment(engine) as db:
        _integrity(db, result, progress)
        _audit(db, result)
        _chunks(db, result, progress)
        _spans(db, result, progress)
        _journal(db, result, progress)
    return result


def verify_directory(data_dir: Path, progress: Progress = lambda *_: None) -> Verified:
    """The SQLite database of a directory, also while a server runs. Raises `StoreError`."""
    with reading(data_dir) as engine:
        return verify(engine, progress)


@contextmanager
def one_moment(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the database as it was when the block began."""
    with engine.connect() as db:
        if engine.dialect.name == "postgresql":
            db = db.execution_options(isolation_level="REPEATABLE READ")
            with db.begin():
                yield db
            return
        db.exec_driver_sql("BEGIN")
        try:
            yield db
        finally:
            db.exec_driver_sql("ROLLBACK")


def _integrity(db: Connection, result: Verified, progress: Progress) -> None:
    if db.dialect.name != "sqlite":
        return
    progress("integrity", 0, 1)
    for (said,) in db.exec_driver_sql("PRAGMA integrity_check(20)"):
        if said != "ok":
            result.bad(f"SQLite: {said}")
    progress("integrity", 1, 1)


def _audit(db: Connection, result: Verified) -> None:
    rows = db.execution_options(stream_results=True).execute(select(t.audit).order_by(t.audit.c.n))
    broken = first_break({"id": row.n, **row._mapping} for row in rows)
    if broken is not None:
        result.bad(f"audit: the chain is broken at row {broken}")


def _rows(
    db: Connection, table: Table, order: Any, result: Verified, progress: Progress
) -> Iterator[Any]:
    total = db.execute(select(func.count()).select_from(table)).scalar_one()
    result.rows[table.name] = total
    progress(table.name, 0, total)
    query = select(table).order_by(*order)
    found = db.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE).execute(query)
    for done, row in enumerate(found, 1):
        yield row
        if done % ROWS_AT_ONCE == 0 or done == total:
            progress(table.name, done, total)


def _chunks(db: Connection, result: Verified, progress: Progress) -> None:
    """With their axes; then whether each series is without a hole."""
    known = set(db.execute(select(t.axes.c.n)).scalars())
    result.rows["axes"] = len(known)
    used: set[int] = set()
    number, axis = -1, None
    for row in _rows(db, t.chunks, (t.chunks.c.axis_n, t.chunks.c.n), result, progress):
        where = f"chunk {row.n} (series {row.series_n})"
        try:
            if row.axis_n != number:
                number = row.axis_n
                axis = _axis(db, number)
            used.add(number)
            for problem in _chunk(row, axis):
                result.bad(f"{where}: {problem}")
        except (CodecError, ValueError) as error:
            result.bad(f"{where}: cannot be decoded: {error}")
        if row.axis_n == DROPPED:
            result.dropped += row.points
        else:
            result.points += row.points
    for lost in sorted(known - used):
        result.bad(f"axis {lost}: belongs to no chunk")
    one = t.chunks.c
    counts = select(one.series_n, func.count(), func.min(one.seq), func.max(one.seq))
    for series, count, low, high in db.execute(counts.group_by(one.series_n)):
        if low != 0 or high != count - 1:
            result.bad(f"series {series}: expected chunks 0 to {count - 1}, got {low} to {high}")


def _axis(db: Connection, number: int) -> tuple[np.ndarray, np.ndarray] | None:
    data = db.execute(select(t.axes.c.data).where(t.axes.c.n == number)).scalar()
    return None if data is None else unpack_axis(data)


def _chunk(row: Any, axis: tuple[np.ndarray, np.ndarray] | None) -> Iterator[str]:
    summary = unpack_summary(row.summary)
    if summary["count"].sum() != row.points:
        yield f"expected {row.points} points, its summary has {summary['count'].sum():.0f}"
    if row.axis_n == DROPPED:
        if row.data:
            yield "expected no values: its axis was dropped"
        return
    if axis is None:
        yield f"axis {row.axis_n} is missing"
        return
    steps, values = axis[0], unpack_values(row.data)
    if len(values) != row.points or len(steps) != row.points:
        yield f"expected {row.points} points, got {len(values)} values and {len(steps)} steps"
    elif (int(steps.min()), int(steps.max())) != (row.low, row.high):
        yield f"expected steps {row.low} to {row.high}, got {steps.min()} to {steps.max()}"
    elif np.isnan(values).sum() != summary["nan"].sum():
        yield f"expected {summary['nan'].sum():.0f} NaN, got {np.isnan(values).sum()}"


def _spans(db: Connection, result: Verified, progress: Progress) -> None:
    for row in _rows(db, t.spans, (t.spans.c.n,), result, progress):
        where = f"span {row.n} (series {row.series_n})"
        under = reach(row.level)
        one = t.chunks.c
        inside = select(func.sum(one.points)).where(
            one.series_n == row.series_n, one.seq >= row.first, one.seq < row.first + under
        )
        try:
            count = unpack_summary(row.data)["count"].sum()
        except (CodecError, ValueError) as error:
            result.bad(f"{where}: cannot be decoded: {error}")
            continue
        expected = db.execute(inside).scalar() or 0
        if count != expected or count > under * CHUNK_POINTS:
            result.bad(f"{where}: its chunks have {expected} points, it has {count:.0f}")


def _journal(db: Connection, result: Verified, progress: Progress) -> None:
    for row in _rows(db, t.journal, (t.journal.c.n,), result, progress):
        where = f"journal row {row.n} (run {row.run_id})"
        try:
            frame = decode_client(row.frame)
            if not isinstance(frame, Batch):
                raise FrameError("expected a batch")
            if (frame.first, len(frame.records)) != (row.first, row.last - row.first + 1):
                result.bad(f"{where}: expected records {row.first} to {row.last}")
            for record in frame.records:
                if isinstance(record, Points):
                    k, n = table_shape(record)
                    result.points += k * n
        except FrameError as error:
            result.bad(f"{where}: cannot be decoded: {error}")
