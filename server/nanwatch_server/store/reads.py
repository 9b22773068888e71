"""Queries of the database. Each call sees every transaction that ended before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, Row, Select, func, select
from sqlalchemy.exc import DataError, StatementError

from nanwatch.contract.commands import TERMINAL
from nanwatch_server.domain.audit_chain import AUDITED, first_break
from nanwatch_server.domain.models import (
    Checkpoint,
    Command,
    Finding,
    Incident,
    IncidentState,
    JournalRow,
    ProjectRules,
    RankState,
    Run,
    RunMark,
    Series,
    Stream,
)
from nanwatch_server.domain.ports import Signs
from nanwatch_server.store import tables as t
from nanwatch_server.store.notices import NoticeReads
from nanwatch_server.store.rows import (
    of_stream,
    to_journal,
    to_run,
    to_series,
    unpack,
)

ROW_MOST = (1 << 63) - 1
"""Largest number of a row."""


def _cannot_exist(error: StatementError) -> bool:
    """True if rows were asked for by a value that no row can hold, like text with NUL."""
    return isinstance(error, DataError) or isinstance(error.orig, ValueError)


def _signs(signs: Signs) -> list[ColumnElement[bool]]:
    run = t.runs.c
    ended = run.ended_at.is_not(None) if signs.ended else run.ended_at.is_(None)
    found: list[ColumnElement[bool]] = [ended]
    if signs.seen_before is not None:
        found.append(run.last_seen_at < signs.seen_before)
    if signs.seen_since is not None:
        found.append((run.last_seen_at >= signs.seen_since) | run.id.in_(signs.or_these))
    return found


class Reads(NoticeReads):
    """The reading half of `domain.ports.Store`."""

    def __init__(self, readers: Engine) -> None:
        self._readers = readers

    @property
    def readers(self) -> Engine:
        """Connections for reading only."""
        return self._readers

    def _all(self, query: Select) -> list[Row]:
        try:
            with self._readers.connect() as db:
                return list(db.execute(query).all())
        except StatementError as error:
            if _cannot_exist(error):
                return []
            raise

    def _first(self, query: Select) -> Row | None:
        try:
            with self._readers.connect() as db:
                return db.execute(query).first()
        except StatementError as error:
            if _cannot_exist(error):
                return None
            raise

    def removed_runs(self) -> list[str]:
        """Runs that were deleted here."""
        return [row.run_id for row in self._all(select(t.removals.c.run_id))]

    # --- runs and series ----------------------------------------------------------------------

    def run(self, run_id: str) -> Run | None:
        """The run, or None."""
        row = self._first(select(t.runs).where(t.runs.c.id == run_id))
        return None if row is None else to_run(row)

    def runs(
        self,
        *,
        query: str = "",
        project: str = "",
        limit: int = 50,
        after: str = "",
        signs: Signs | None = None,
    ) -> tuple[list[Run], str | None]:
        """Newest first; the second value continues the list when given as `after`."""
        run = t.runs.c
        wanted = select(t.runs).order_by(run.n.desc()).limit(limit + 1)
        if query:
            wanted = wanted.where(
                run.name.icontains(query, autoescape=True)
                | run.project.icontains(query, autoescape=True)
                | run.id.startswith(query, autoescape=True)
            )
        if project:
            wanted = wanted.where(run.project == project)
        if signs is not None:
            wanted = wanted.where(*_signs(signs))
        if after:
            wanted = wanted.where(
                run.n < (min(int(after[:19]), ROW_MOST) if after.isdecimal() else 0)
            )
        rows = self._all(wanted)
        more = str(rows[limit - 1].n) if len(rows) > limit else None
        return [to_run(row) for row in rows[:limit]], more

    def series_of(self, run_id: str) -> list[Series]:
        """All series of the run, in the order of their first declaration."""
        query = select(t.series).where(t.series.c.run_id == run_id).order_by(t.series.c.n)
        return [to_series(row) for row in self._all(query)]

    def series_page(
        self, run_id: str, *, query: str = "", limit: int = 200, after: int = 0
    ) -> tuple[list[Series], int | None]:
        """In the order of declaration; the second value continues when given as `after`."""
        one = t.series.c
        wanted = select(t.series).where(one.run_id == run_id, one.n > after)
        if query:
            wanted = wanted.where(
                one.kind.icontains(query, autoescape=True)
                | one.scope.icontains(query, autoescape=True)
                | one.layer.icontains(query, autoescape=True)
            )
        rows = self._all(wanted.order_by(one.n).limit(limit + 1))
        more = rows[limit - 1].n if len(rows) > limit else None
        return [to_series(row) for row in rows[:limit]], more

    def declarations(self, stream: Stream) -> dict[int, Series]:
        """Wire id → Series, as declared so far."""
        decl = t.declarations.c
        query = (
            select(decl.wire_id, t.series)
            .join(t.series, t.series.c.n == decl.series_n)
            .where(*(decl[name] == value for name, value in of_stream(stream).items()))
        )
        return {row.wire_id: to_series(row) for row in self._all(query)}

    # --- streams ------------------------------------------------------------------------------

    def high_water(self, stream: Stream, lane: str) -> int:
        """Highest contiguous sequence number stored; -1 if none."""
        row = self._first(select(t.streams.c.high).filter_by(**of_stream(stream), lane=lane))
        return -1 if row is None else row.high

    def journal(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 256
    ) -> list[JournalRow]:
        """Rows with `after` < `id` < `before`, in commit order."""
        place = t.journal.c
        query = (
            select(t.journal)
            .where(place.run_id == run_id, place.n > after)
            .order_by(place.n)
            .limit(limit)
        )
        if before is not None:
            query = query.where(place.n < before)
        return [to_journal(row) for row in self._all(query)]

    def runs_with_journal(self) -> list[str]:
        """Runs some of whose points are not in chunks yet."""
        return [row.run_id for row in self._all(select(t.journal.c.run_id).distinct())]

    def journal_end(self, run_id: str, keep: int = 0) -> int:
        """Number of the run's last journal row but `keep`; 0 if there is none."""
        place = t.journal.c
        query = select(place.n).where(place.run_id == run_id).order_by(place.n.desc())
        row = self._first(query.offset(keep).limit(1))
        return 0 if row is None else row.n

    def rule_state(self, run_id: str) -> tuple[int, bytes] | None:
        """(journal row, what the rules knew after it), if it was ever saved."""
        row = self._first(select(t.rule_states).where(t.rule_states.c.run_id == run_id))
        return None if row is None else (row.upto, row.data)

    def gaps(self, run_id: str) -> list[dict[str, Any]]:
        """Records that never came, and why."""
        query = select(t.gaps).where(t.gaps.c.run_id == run_id).order_by(t.gaps.c.n)
        return [dict(row._mapping) for row in self._all(query)]

    # --- findings, incidents, commands --------------------------------------------------------

    def findings(self, run_id: str) -> list[Finding]:
        """All findings of the run, oldest first."""
        column = t.findings.c
        query = select(column.body).where(column.run_id == run_id).order_by(column.n)
        return [unpack(row.body, Finding) for row in self._all(query)]

    def incidents(
        self, *, run_id: str = "", open_only: bool = False, run_ids: Sequence[str] | None = None
    ) -> list[Incident]:
        """Newest first, of one run, of these runs or of all."""
        column = t.incidents.c
        query = select(column.body).order_by(column.n.desc())
        if run_id:
            query = query.where(column.run_id == run_id)
        if run_ids is not None:
            query = query.where(column.run_id.in_(run_ids))
        if open_only:
            query = query.where(column.state != IncidentState.RESOLVED.value)
        return [unpack(row.body, Incident) for row in self._all(query)]

    def incident(self, incident_id: str) -> Incident | None:
        """The incident, or None."""
        row = self._first(select(t.incidents.c.body).where(t.incidents.c.id == incident_id))
        return None if row is None else unpack(row.body, Incident)

    def command(self, command_id: str) -> Command | None:
        """The command, or None."""
        row = self._first(select(t.commands.c.body).where(t.commands.c.id == command_id))
        return None if row is None else unpack(row.body, Command)

    def commands(self, run_id: str, *, open_only: bool = False) -> list[Command]:
        """Newest first; an empty `run_id` means those of all runs."""
        column = t.commands.c
        query = select(column.body).order_by(column.n.desc())
        if run_id:
            query = query.where(column.run_id == run_id)
        if open_only:
            query = query.where(column.state.not_in(sorted(TERMINAL)))
        return [unpack(row.body, Command) for row in self._all(query)]

    # --- marks, checkpoints, reports ----------------------------------------------------------

    def ranks(self, run_id: str) -> list[RankState]:
        """Ranks that have connected, in order; empty for a training of one process."""
        query = select(t.ranks).where(t.ranks.c.run_id == run_id).order_by(t.ranks.c.rank)
        return [RankState(**row._mapping) for row in self._all(query)]

    def groups(self, run_id: str) -> dict[Stream, tuple[int, int]]:
        """(world size, generation) of every process of the run."""
        query = select(t.epochs).where(t.epochs.c.run_id == run_id)
        return {
            Stream(run_id=run_id, rank=row.rank, epoch=row.epoch): (row.world, row.generation)
            for row in self._all(query)
        }

    def rules(self, project: str) -> ProjectRules | None:
        """Limits of a project, if it ever had any of its own."""
        table = t.project_rules
        row = self._first(select(table).where(table.c.project == project))
        return None if row is None else ProjectRules(**row._mapping)

    def projects(self) -> list[dict[str, Any]]:
        """Projects that have runs or limits of their own, by name."""
        runs, rules = t.runs.c, t.project_rules.c
        count = select(runs.project, func.count(), func.max(runs.last_seen_at))
        found = {
            project: {"project": project, "runs": n, "last_seen_at": seen, "own_rules": False}
            for project, n, seen in self._all(count.group_by(runs.project))
        }
        for (project,) in self._all(select(rules.project).where(rules.text != "")):
            blank = {"project": project, "runs": 0, "last_seen_at": None}
            found[project] = {**found.get(project, blank), "own_rules": True}
        return [found[project] for project in sorted(found)]

    def marks(self, run_id: str) -> list[RunMark]:
        """In order of arrival."""
        query = select(t.marks.c.body).where(t.marks.c.run_id == run_id).order_by(t.marks.c.n)
        return [unpack(row.body, RunMark) for row in self._all(query)]

    def checkpoints(self, run_id: str) -> list[Checkpoint]:
        """In order of arrival."""
        column = t.checkpoints.c
        query = select(column.body).where(column.run_id == run_id).order_by(column.n)
        return [unpack(row.body, Checkpoint) for row in self._all(query)]

    def reports(self, run_id: str, what: str = "") -> list[dict[str, Any]]:
        """`what`, `rank`, `step`, `at` and the msgpack `data` as it came, in order of arrival."""
        query = select(t.reports).where(t.reports.c.run_id == run_id).order_by(t.reports.c.n)
        if what:
            query = query.where(t.reports.c.what == what)
        return [dict(row._mapping) for row in self._all(query)]

    # --- audit and keys -----------------------------------------------------------------------

    def audit_rows(
        self, *, run_id: str = "", limit: int = 100, after: int = 0
    ) -> list[dict[str, Any]]:
        """Newest first; `after` is the `id` of the last row seen (older ones follow)."""
        query = select(t.audit).order_by(t.audit.c.n.desc()).limit(limit)
        if run_id:
            query = query.where(t.audit.c.run_id == run_id)
        if after:
            query = query.where(t.audit.c.n < after)
        return [
            {"id": row.n, **{name: row._mapping[name] for name in AUDITED}, "hash": row.hash}
            | {"detail": json.loads(row.detail)}
            for row in self._all(query)
        ]

    def audit_break(self) -> int | None:
        """Number of the first audit row whose hash does not fit; None if all fit."""
        with self._readers.connect() as db:
            rows = db.execute(select(t.audit).order_by(t.audit.c.n))
            return first_break({"id": row.n, **row._mapping} for row in rows)

    def token(self, sha256: str) -> dict[str, Any] | None:
        """The token with this hash, or None."""
        return self._keyed(select(t.tokens.c.body).where(t.tokens.c.sha256 == sha256))

    def tokens(self) -> list[dict[str, Any]]:
        """All tokens, oldest first."""
        rows = self._all(select(t.tokens.c.body).order_by(t.tokens.c.n))
        return [msgspec.msgpack.decode(row.body) for row in rows]

    def session(self, sha256: str) -> dict[str, Any] | None:
        """The browser session with this hash, or None."""
        return self._keyed(select(t.sessions.c.body).where(t.sessions.c.sha256 == sha256))

    def _keyed(self, query: Select) -> dict[str, Any] | None:
        row = self._first(query)
        return None if row is None else msgspec.msgpack.decode(row.body)
