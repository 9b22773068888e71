"""Deletes a run for good, in small transactions. Called by the API, `nanwatch runs` and `nightly`.

The first transaction takes the run off every list and writes its id down for ever; the rest follows
in pieces, also after a restart. What the training still sends is refused (`RunRemovedError`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, delete, func, select, update

from nanwatch_server.store import tables as t

if TYPE_CHECKING:
    from nanwatch_server.store.history import History
    from nanwatch_server.store.sql import SqlStore

ROWS_AT_ONCE = 500
"""Rows of one transaction: about 5 MB of chunks, so that others do not wait long."""

PAUSE_S = 0.005
"""Between two transactions: others get their turn."""

AT_ONCE = (
    t.runs,
    t.epochs,
    t.ranks,
    t.streams,
    t.compactions,
    t.rule_states,
    t.incidents,
    t.commands,
    t.pins,
    t.notify_outbox,
)
"""Gone with the first transaction: everything small, and everything by which a run is found."""

IN_PIECES = (
    t.journal,
    t.findings,
    t.marks,
    t.checkpoints,
    t.reports,
    t.gaps,
    t.chunks,
    t.spans,
    t.axes,
    t.declarations,
    t.series,
)
"""Chunks are found by the run's series, so these come last."""


def remove_run(store: SqlStore, run_id: str, by: dict[str, str], now: float) -> None:
    """The run is no more, from the end of this call on; `sweep` takes away what is left of it.

    `by` has actor, role and via for the audit. Whoever remembers the run must forget it afterwards.
    """
    with store.write() as uow:
        run = uow.run(run_id)
        detail: dict[str, Any] = {}
        if run is not None:
            detail = {"project": run.project, "name": run.name, "last_step": run.last_step}
        uow.audit(at=now, action="run.delete", run_id=run_id, target=run_id, detail=detail, **by)
        uow.remove_run(run_id, now)
        for table in AT_ONCE:
            key = table.c.id if table is t.runs else table.c.run_id
            uow.db.execute(delete(table).where(key == run_id))


def sweep(
    store: SqlStore, history: History, run_id: str, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Take away what is left of a removed run; the number of rows."""
    series = [one.id for one in store.series_of(run_id)]
    rows = 0
    for table in IN_PIECES:
        if table in (t.chunks, t.spans):
            # Their index begins with the series.
            for one in series:
                rows += _clear(store, table, table.c.series_n == one, run_id, stopped)
        else:
            rows += _clear(store, table, table.c.run_id == run_id, run_id, stopped)
    history.forget(series)
    if not stopped():
        with store.write() as uow:
            uow.db.execute(update(t.removals).where(t.removals.c.run_id == run_id).values(done=1))
    return rows


def unfinished(store: SqlStore) -> list[str]:
    """Removed runs of which rows may be left."""
    with store.readers.connect() as db:
        return list(db.execute(select(t.removals.c.run_id).where(t.removals.c.done == 0)).scalars())


def _clear(
    store: SqlStore, table: Table, ours: Any, run_id: str, stopped: Callable[[], bool]
) -> int:
    """In pieces of `ROWS_AT_ONCE`."""
    key = table.c.n if "n" in table.c else table.c.wire_id
    mine = ours & (table.c.run_id == run_id)
    cleared = 0
    while not stopped():
        with store.write() as uow:
            some = list(uow.db.execute(select(key).where(mine).limit(ROWS_AT_ONCE)).scalars())
            if some:
                cleared += uow.db.execute(delete(table).where(mine, key.in_(some))).rowcount
        if len(some) < ROWS_AT_ONCE:
            break
        time.sleep(PAUSE_S)
    return cleared


def size_of(store: SqlStore, run_id: str) -> dict[str, int]:
    """Rows that name the run, by table; empty when nothing is left. For tests and `db verify`."""
    found: dict[str, int] = {}
    with store.readers.connect() as db:
        for table in (*AT_ONCE, *IN_PIECES):
            key = table.c.id if table is t.runs else table.c.run_id
            rows = db.execute(select(func.count()).select_from(table).where(key == run_id)).scalar()
            if rows:
                found[table.name] = rows
    return found
