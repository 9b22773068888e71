"""How much room runs take, and what deletion or a shorter retention would cost. Reads only.

One pass over the database sums up all runs. It takes seconds where there are millions of chunks,
so a thread makes it when somebody asks, and the last one is answered meanwhile. Called by the API.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from sqlalchemy import ColumnElement, Connection, Table, case, func, select, text

from nanwatch_server.store import removal, retention
from nanwatch_server.store import tables as t
from nanwatch_server.store.backup import backups
from nanwatch_server.store.base import StoreError
from nanwatch_server.store.chunks import DROPPED
from nanwatch_server.store.sqlite import FILE_NAME

if TYPE_CHECKING:
    from nanwatch_server.store.sql import SqlStore

_log = structlog.get_logger()

FRESH_S = 30.0
"""So old sums are not made anew for somebody who looks twice."""

CLOSE_S = 5.0


class Size(NamedTuple):
    """Of one run: points as they are stored, those of which only summaries are left, and bytes."""

    points: int = 0
    dropped: int = 0
    bytes: int = 0

    def __add__(self, other: Any) -> Size:
        return Size(*(a + b for a, b in zip(self, other, strict=True)))


_HEAVY: tuple[tuple[Table, ColumnElement[int]], ...] = (
    (t.journal, func.length(t.journal.c.frame)),
    (t.axes, func.length(t.axes.c.data)),
    (t.spans, func.length(t.spans.c.data)),
    (t.rule_states, func.length(t.rule_states.c.data)),
)
"""What weighs something beside chunks, and its bytes."""


def _sums(db: Connection, run_id: str = "") -> dict[str, Size]:
    """By run; of one run if it is named."""
    dropped = case((t.chunks.c.axis_n == DROPPED, t.chunks.c.points), else_=0)
    weight = func.length(t.chunks.c.summary) + func.length(t.chunks.c.data)
    found: dict[str, Size] = {}
    for table, columns in (
        (t.chunks, (t.chunks.c.points - dropped, dropped, weight)),
        *((table, (0 * weight, 0 * weight, weight)) for table, weight in _HEAVY),
    ):
        names = ("points", "dropped", "bytes")
        rows = select(table.c.run_id, *(c.label(n) for c, n in zip(columns, names, strict=True)))
        if run_id:
            rows = _of_run(rows, table, db, run_id)
        # Lengths first, sums after: SQLite would carry the values themselves through the grouping.
        one = rows.cte("one").prefix_with("MATERIALIZED")
        sums = (func.sum(one.c[name]) for name in names)
        for row in db.execute(select(one.c.run_id, *sums).group_by(one.c.run_id)):
            found[row[0]] = found.get(row[0], Size()) + Size(*(int(n or 0) for n in row[1:]))
    return found


def _of_run(rows: Any, table: Table, db: Connection, run_id: str) -> Any:
    if table in (t.chunks, t.spans):  # their index begins with the series
        ours = select(t.series.c.n).where(t.series.c.run_id == run_id)
        rows = rows.where(table.c.series_n.in_(ours))
    return rows.where(table.c.run_id == run_id)


class Sizes:
    """Answers the page of storage. Any thread."""

    def __init__(
        self,
        store: SqlStore,
        data_dir: Path,
        backup_dir: Path,
        default_days: float | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._data_dir, self._backup_dir = store, data_dir, backup_dir
        self._days, self._clock = default_days, clock
        self._lock = threading.Lock()
        self._known: dict[str, Size] = {}
        self._measured_at: float | None = None
        self._measuring = self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Wait for a pass that goes on, but not for long."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join(CLOSE_S)

    def overview(self) -> dict[str, Any]:
        """The database, its disk, and every project; sums are those of `measured_at`."""
        self._measure_when_old()
        with self._lock:
            known, at, measuring = self._known, self._measured_at, self._measuring
        projects: dict[str, dict[str, Any]] = {}
        for name, kept in retention.kept(self._store, self._days).items():
            projects[name] = {
                "project": name, "days": kept.days, "own": kept.own, "runs": 0, **Size()._asdict()
            }  # fmt: skip
        with self._store.readers.connect() as db:
            runs = db.execute(select(t.runs.c.id, t.runs.c.project)).all()
        for run_id, project in runs:
            entry = projects.setdefault(
                project,
                {"project": project, "days": self._days, "own": False, "runs": 0}
                | Size()._asdict(),
            )
            entry["runs"] += 1
            for name, value in known.get(run_id, Size())._asdict().items():
                entry[name] += value
        return {
            "default_days": self._days,
            "database": self._database(),
            "disk": _disk(self._data_dir) if self._store.is_file else None,
            "backups": _backups(self._backup_dir) if self._store.is_file else None,
            "removing": len(removal.unfinished(self._store)),
            "measured_at": at,
            "measuring": measuring,
            "projects": [projects[name] for name in sorted(projects)],
        }

    def largest(self, count: int) -> list[tuple[str, Size]]:
        """Ids of the runs that take most room."""
        with self._lock:
            known = list(self._known.items())
        return sorted(known, key=lambda one: -one[1].bytes)[:count]

    def of_run(self, run_id: str, project: str) -> dict[str, Any]:
        """What would go with a run, and why its points are kept."""
        with self._store.readers.connect() as db:
            size = _sums(db, run_id).get(run_id, Size())
            pinned = db.execute(select(t.pins.c.run_id).where(t.pins.c.run_id == run_id)).first()
            counts = {
                table.name: db.execute(
                    select(func.count()).select_from(table).where(table.c.run_id == run_id)
                ).scalar_one()
                for table in (t.series, t.incidents, t.marks, t.commands)
            }
        kept = retention.kept(self._store, self._days).get(project)
        return {
            **size._asdict(),
            **counts,
            "pinned": pinned is not None,
            "days": kept.days if kept else self._days,
        }

    def preview(self, project: str, days: float | None) -> dict[str, int]:
        """How many runs have points older than that, and how many of them are kept whole."""
        if days is None:
            return {"runs": 0, "whole": 0}
        before = self._clock() - days * retention.DAY_S
        mine = (t.runs.c.project == project) & (t.runs.c.started_at < before)
        with self._store.readers.connect() as db:
            old = set(db.execute(select(t.runs.c.id).where(mine)).scalars())
        return {"runs": len(old), "whole": len(old & retention.protected(self._store))}

    def changed(self) -> None:
        """A run was deleted: the next one who asks gets new sums."""
        with self._lock:
            self._measured_at = None

    # --- the pass -----------------------------------------------------------------------------

    def _measure_when_old(self) -> None:
        with self._lock:
            at = self._measured_at
            fresh = at is not None and self._clock() - at < FRESH_S
            if fresh or self._measuring or self._closed:
                return
            self._measuring = True
            self._thread = threading.Thread(
                target=self._measure, name="nanwatch-sizes", daemon=True
            )
            self._thread.start()

    def _measure(self) -> None:
        found: dict[str, Size] | None = None
        try:
            with self._store.readers.connect() as db:
                found = _sums(db)
        except StoreError as error:
            _log.warning("the runs were not measured", error=str(error))
        except Exception:
            if not self._closed:
                _log.exception("the runs were not measured")
        with self._lock:
            self._measuring = False
            if found is not None:
                self._known, self._measured_at = found, self._clock()

    def _database(self) -> dict[str, Any]:
        if not self._store.is_file:
            with self._store.readers.connect() as db:
                size = db.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
            return {"kind": "PostgreSQL", "bytes": int(size), "free_bytes": 0}
        with self._store.readers.connect() as db:
            free, size = (
                int(db.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("freelist_count", "page_size")
            )
        files = (self._data_dir / (FILE_NAME + end) for end in ("", "-wal", "-shm"))
        return {"kind": "SQLite", "bytes": sum(map(_bytes, files)), "free_bytes": free * size}


def _disk(path: Path) -> dict[str, int]:
    usage = shutil.disk_usage(path)
    return {"free_bytes": usage.free, "total_bytes": usage.total}


def _backups(directory: Path) -> dict[str, Any]:
    made = backups(directory)
    newest = None
    with suppress(OSError, IndexError):
        newest = made[-1].stat().st_mtime
    return {"count": len(made), "bytes": sum(map(_bytes, made)), "newest_at": newest}


def _bytes(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
