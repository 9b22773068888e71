"""Drops points one by one that are older than their project keeps them; the summaries stay.

A chunk's values go, and its axis when no chunk needs it any more. Kept whole: pinned runs and runs
with an incident that is not resolved. Called by `nightly` and `nanwatch db retention`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import ColumnElement, Engine, delete, select, update

from nanwatch_server.domain.models import IncidentState
from nanwatch_server.store import chunks
from nanwatch_server.store import tables as t
from nanwatch_server.store.codec import CodecError, unpack_axis
from nanwatch_server.store.sqlite import reading

if TYPE_CHECKING:
    from nanwatch_server.store.sql import SqlStore
    from nanwatch_server.store.tail import Tail

CHUNKS_AT_ONCE = 256
AXES_AT_ONCE = 64
DAY_S = 86_400.0


class Kept(NamedTuple):
    """How long a project's points are kept: `days`, None for ever. `own`: not by the default."""

    days: float | None
    own: bool


def kept(store: SqlStore, default_days: float | None) -> dict[str, Kept]:
    """Every project that has runs or a rule of its own."""
    return _kept(store.readers, default_days)


def _kept(engine: Engine, default_days: float | None) -> dict[str, Kept]:
    with engine.connect() as db:
        found = {
            project: Kept(default_days, False)
            for project in db.execute(select(t.runs.c.project).distinct()).scalars()
        }
        for project, days in db.execute(select(t.retention.c.project, t.retention.c.days)):
            found[project] = Kept(days, True)
    return found


def rules(data_dir: Path, default_days: float | None) -> list[tuple[str, Kept]]:
    """Of the SQLite database of a directory, also while a server runs."""
    with reading(data_dir) as engine:
        return sorted(_kept(engine, default_days).items())


def keep(store: SqlStore, project: str, days: float | None) -> None:
    """From now on points of the project are kept so long; None: for ever."""
    if days is not None and not days > 0:
        raise ValueError(f"expected a number of days above 0, got {days}")
    with store.write() as uow:
        uow.set_retention(project, days)


def protected(store: SqlStore) -> set[str]:
    """Runs that keep every point."""
    with store.readers.connect() as db:
        pinned = set(db.execute(select(t.pins.c.run_id)).scalars())
        unsolved = select(t.incidents.c.run_id).where(
            t.incidents.c.state != IncidentState.RESOLVED.value
        )
        return pinned | set(db.execute(unsolved.distinct()).scalars())


def apply(
    store: SqlStore,
    tail: Tail,
    lock: threading.Lock,
    default_days: float | None,
    now: float,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Drop what is too old; the number of points dropped. `lock`: held against compaction."""
    safe, dropped = protected(store), 0
    for project, (days, _) in kept(store, default_days).items():
        if days is None:
            continue
        before = now - days * DAY_S
        with store.readers.connect() as db:
            # A run that began later has no point that is old enough.
            old = select(t.runs.c.id).where(
                t.runs.c.project == project, t.runs.c.started_at < before
            )
            runs = [one for one in db.execute(old).scalars() if one not in safe]
        for run_id in runs:
            if stopped():
                return dropped
            dropped += drop_before(store, tail, lock, run_id, before, stopped)
    return dropped


def drop_before(
    store: SqlStore,
    tail: Tail,
    lock: threading.Lock,
    run_id: str,
    before: float,
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Drop the chunks of a run whose newest point is older than this time."""
    dropped, after = 0, 0
    while not stopped():
        with store.readers.connect() as db:
            some = db.execute(
                select(t.axes.c.n, t.axes.c.data)
                .where(t.axes.c.run_id == run_id, t.axes.c.n > after)
                .order_by(t.axes.c.n)
                .limit(AXES_AT_ONCE)
            ).all()
        if not some:
            break
        after = some[-1].n
        old = [row.n for row in some if _newest(row.data) < before]
        for axis in old:
            with lock:
                dropped += _drop_axis(store, tail, run_id, axis)
    return dropped


def _newest(axis: bytes) -> float:
    try:
        return float(unpack_axis(axis)[1].max(initial=0.0))
    except CodecError:
        return float("inf")  # damaged: left for `nanwatch db verify` to tell


def _drop_axis(store: SqlStore, tail: Tail, run_id: str, axis: int) -> int:
    """All chunks of one axis, and then the axis itself."""
    dropped, more = 0, True
    while more:
        with store.readers.connect() as db:
            some = db.execute(
                select(t.chunks.c.n, t.chunks.c.series_n, t.chunks.c.points)
                .where(_of_axis(run_id, axis))
                .limit(CHUNKS_AT_ONCE)
            ).all()
        more = len(some) == CHUNKS_AT_ONCE
        commit = partial(_drop, store, run_id, axis, [row.n for row in some], not more)
        tail.changed(run_id, {row.series_n for row in some}, commit)
        dropped += sum(row.points for row in some)
    return dropped


def _of_axis(run_id: str, axis: int) -> ColumnElement[bool]:
    return (t.chunks.c.axis_n == axis) & (t.chunks.c.run_id == run_id)


def _drop(store: SqlStore, run_id: str, axis: int, numbers: list[int], last: bool) -> None:
    mine = _of_axis(run_id, axis)
    with store.write(bulk=True) as uow:
        for some in chunks.batches(numbers):
            uow.db.execute(
                update(t.chunks)
                .where(mine, t.chunks.c.n.in_(some))
                .values(axis_n=chunks.DROPPED, data=b"")
            )
        if last:
            used = select(t.chunks.c.n).where(mine)
            gone = (t.axes.c.n == axis) & (t.axes.c.run_id == run_id)
            uow.db.execute(delete(t.axes).where(gone, ~used.exists()))
