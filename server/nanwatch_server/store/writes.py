"""One transaction: everything that changes the database goes through `SqlUnit`."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, case, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from nanwatch.contract.frames import LANES, RunInfo, SeriesDecl
from nanwatch_server.domain.audit_chain import audit_hash, canonical_json
from nanwatch_server.domain.models import (
    Checkpoint,
    Command,
    Coverage,
    Finding,
    Incident,
    ProjectRules,
    Run,
    RunMark,
    Series,
    Stream,
)
from nanwatch_server.store import chunks, groups
from nanwatch_server.store import tables as t
from nanwatch_server.store.base import RunRemovedError
from nanwatch_server.store.chunks import ChunkRef, FreshChunk, FreshSpan
from nanwatch_server.store.notices import NoticeWrites
from nanwatch_server.store.rows import (
    of_stream,
    pack,
    to_run,
    unpack,
)

NUMBERS_AT_ONCE = 64
"""Journal rows of one group commit, about; numbers that are not used are lost, which is no harm."""

JOURNAL = ("n", "run_id", "rank", "epoch", "lane", "first", "last", "at", "frame")
STREAM = ("run_id", "rank", "epoch", "lane", "high")
NAME = ("run_id", "rank", "stage", "scope", "kind", "layer")

_seen, _step = bindparam("seen"), bindparam("step")
_TOUCH = (
    update(t.runs)
    .where(t.runs.c.id == bindparam("run"))
    .values(
        last_seen_at=case((t.runs.c.last_seen_at < _seen, _seen), else_=t.runs.c.last_seen_at),
        last_step=case((t.runs.c.last_step < _step, _step), else_=t.runs.c.last_step),
    )
)


class SqlUnit(NoticeWrites):
    """Implements `domain.ports.UnitOfWork`; lives inside one `write()` block."""

    def __init__(self, connection: Connection, removed: Container[str] = frozenset()) -> None:
        self._db = connection
        self._removed = removed
        self.newly_removed: list[str] = []
        """Runs that are deleted in this transaction."""
        self._insert = (
            postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        )
        # What a group commit writes again and again, written once at its end (`flush`).
        self._journal: list[tuple[Any, ...]] = []
        self._numbers: Iterator[int] = iter(())
        self._high: dict[tuple[Stream, str], int] = {}
        self._raised: set[tuple[Stream, str]] = set()
        self._touched: dict[str, tuple[float, int]] = {}

    @property
    def db(self) -> Connection:
        """The connection, for other modules of the store."""
        return self._db

    def _exists(self, run_id: str) -> None:
        if run_id in self._removed:
            raise RunRemovedError(f"run {run_id} was deleted from this server")

    def flush(self) -> None:
        """Write what was gathered. `SqlStore.write` calls it before COMMIT."""
        rows, self._journal = self._journal, []
        groups.insert(self._db, "journal", JOURNAL, rows)
        raised, self._raised = self._raised, set()
        groups.insert(
            self._db,
            "streams",
            STREAM,
            [(s.run_id, s.rank, s.epoch, lane, self._high[s, lane]) for s, lane in raised],
            "ON CONFLICT (run_id, rank, epoch, lane) DO UPDATE SET high = excluded.high",
        )
        touched, self._touched = self._touched, {}
        if touched:
            self._db.execute(
                _TOUCH, [{"run": run, "seen": at, "step": n} for run, (at, n) in touched.items()]
            )

    def _upsert(self, table: Table, key: list[str], row: dict[str, Any]) -> None:
        changed = {name: value for name, value in row.items() if name not in key}
        self._db.execute(
            self._insert(table).values(row).on_conflict_do_update(index_elements=key, set_=changed)
        )

    def _insert_or_ignore(self, table: Table, key: list[str], row: dict[str, Any]) -> bool:
        query = self._insert(table).values(row).on_conflict_do_nothing(index_elements=key)
        return self._db.execute(query.execution_options(preserve_rowcount=True)).rowcount == 1

    # --- runs ---------------------------------------------------------------------------------

    def upsert_run(self, info: RunInfo, control: dict[str, Any] | None, now: float) -> Run:
        """A run says hello: insert, or refresh what it says of itself and reopen it."""
        self._exists(info.id)
        known = self.run(info.id)
        fresh = {
            "name": info.name,
            "config": pack({**(known.config if known else {}), **info.config}),
            "facts": pack({**(known.facts if known else {}), **info.facts}),
            "control": None if control is None else pack(control),
            "last_seen_at": max(now, known.last_seen_at if known else 0.0),
        }
        if known:
            self._db.execute(
                update(t.runs)
                .where(t.runs.c.id == info.id)
                .values(**fresh, ended_at=None, end_reason="", exit_code=None)
            )
        else:
            self._db.execute(
                t.runs.insert().values(
                    **fresh,
                    id=info.id,
                    project=info.project,
                    created_at=now,
                    started_at=info.started_at,
                    last_step=-1,
                    end_reason="",
                )
            )
        run = self.run(info.id)
        assert run is not None
        return run

    def run(self, run_id: str) -> Run | None:
        """The run as this transaction sees it."""
        if run_id in self._touched:
            self.flush()
        row = self._db.execute(select(t.runs).where(t.runs.c.id == run_id)).first()
        return None if row is None else to_run(row)

    def touch_run(self, run_id: str, *, last_seen_at: float, last_step: int) -> None:
        """Sign of life; neither value goes back."""
        seen, step = self._touched.get(run_id, (last_seen_at, last_step))
        self._touched[run_id] = max(seen, last_seen_at), max(step, last_step)

    def end_run(self, run_id: str, *, at: float | None, reason: str, exit_code: int | None) -> None:
        """The run has ended; `at=None` takes that back."""
        self._db.execute(
            update(t.runs)
            .where(t.runs.c.id == run_id)
            .values(ended_at=at, end_reason=reason, exit_code=exit_code)
        )

    def remove_run(self, run_id: str, now: float) -> None:
        """Nothing of this run is taken from now on; its rows are `removal`'s to delete."""
        self._upsert(t.removals, ["run_id"], {"run_id": run_id, "at": now, "done": 0})
        self.newly_removed.append(run_id)

    def set_retention(self, project: str, days: float | None) -> None:
        """How long points of the project are kept one by one; None: for ever."""
        self._upsert(t.retention, ["project"], {"project": project, "days": days})

    def clear_retention(self, project: str) -> None:
        """As the server's default says, from now on."""
        self._db.execute(delete(t.retention).where(t.retention.c.project == project))

    def put_rules(self, rules: ProjectRules) -> None:
        """Limits of a project; an empty text is the packaged ones."""
        values = {"project": rules.project, "text": rules.text}
        changed = {"updated_at": rules.updated_at, "updated_by": rules.updated_by}
        self._upsert(t.project_rules, ["project"], values | changed)

    def pin(self, run_id: str, now: float | None) -> None:
        """The run keeps every point; `now=None` takes that back."""
        if now is None:
            self._db.execute(delete(t.pins).where(t.pins.c.run_id == run_id))
        else:
            self._upsert(t.pins, ["run_id"], {"run_id": run_id, "at": now})

    # --- streams ------------------------------------------------------------------------------

    def open_epoch(
        self,
        stream: Stream,
        *,
        started_at: float,
        parent_epoch: int,
        now: float,
        world: int = 1,
        generation: int = 0,
    ) -> bool:
        """Remember the epoch; True if it is the live one of its (run, rank) from now on."""
        self._exists(stream.run_id)
        epoch = t.epochs.c
        rank = (epoch.run_id == stream.run_id) & (epoch.rank == stream.rank)
        known = self._db.execute(select(t.epochs).where(rank)).all()
        live = next((row for row in known if row.live), None)
        mine = next((row for row in known if row.epoch == stream.epoch), None)
        wins = live is None or live.epoch == stream.epoch or live.epoch == parent_epoch
        if not wins and mine is None and live is not None:
            # A process nobody has seen: the newest one, unless it started before the live one.
            wins = started_at >= live.started_at
        if wins:
            self._db.execute(update(t.epochs).where(rank).values(live=0))
        row = {**of_stream(stream), "started_at": started_at, "seen_at": now, "live": int(wins)}
        row |= {"world": world, "generation": generation}
        self._upsert(t.epochs, ["run_id", "rank", "epoch"], row)
        return wins

    # --- ranks --------------------------------------------------------------------------------

    def put_rank(self, stream: Stream, *, world: int, host: str, now: float) -> None:
        """A rank of several has connected: what it met before is kept."""
        self._exists(stream.run_id)
        row = {"run_id": stream.run_id, "rank": stream.rank, "world": world, "host": host}
        row |= {"last_seen_at": now, "ended_at": None}
        query = self._insert(t.ranks).values(row | {"last_step": -1})
        self._db.execute(
            query.on_conflict_do_update(
                index_elements=["run_id", "rank"],
                set_={name: row[name] for name in ("world", "host", "last_seen_at", "ended_at")},
            )
        )

    def touch_rank(self, stream: Stream, *, last_seen_at: float, last_step: int) -> None:
        """Sign of life; neither value goes back."""
        rank = t.ranks.c
        seen, step = rank.last_seen_at, rank.last_step
        self._update_rank(
            stream,
            last_seen_at=case((seen < last_seen_at, last_seen_at), else_=seen),
            last_step=case((step < last_step, last_step), else_=step),
        )

    def end_rank(self, stream: Stream, at: float) -> None:
        """A rank of several has said goodbye."""
        self._update_rank(stream, ended_at=at)

    def rank_bad(self, stream: Stream, *, step: int, at: float, where: str) -> None:
        """The first step that was not finite; of reports of one step the first is kept."""
        known = t.ranks.c.bad_step
        earlier = known.is_(None) | (known > step)
        self._update_rank(stream, earlier, bad_step=step, bad_at=at, bad_where=where)

    def _update_rank(self, stream: Stream, *only: Any, **changes: Any) -> None:
        rank = t.ranks.c
        here = (rank.run_id == stream.run_id) & (rank.rank == stream.rank)
        self._db.execute(update(t.ranks).where(here, *only).values(**changes))

    def expect(self, streams: Iterable[Stream]) -> None:
        """Look up the high-water marks of all these streams at once."""
        unknown = dict.fromkeys(streams)
        stored = {(stream, lane): -1 for stream in unknown for lane in LANES}
        places = [(one.run_id, one.rank, one.epoch) for one in unknown]
        for run_id, rank, epoch, lane, high in groups.select(
            self._db, "streams", STREAM, STREAM[:3], places
        ):
            stored[Stream(run_id=run_id, rank=rank, epoch=epoch), lane] = high
        self._high = stored | self._high  # what this transaction has set is newer

    def high_water(self, stream: Stream, lane: str) -> int:
        """Highest contiguous sequence number stored; -1 if none."""
        if (stream, lane) not in self._high:
            self.expect([stream])
        return self._high[stream, lane]

    def set_high_water(self, stream: Stream, lane: str, seq: int) -> None:
        """In the transaction of the records up to `seq`."""
        self._high[stream, lane] = seq
        self._raised.add((stream, lane))

    def declare(self, stream: Stream, decls: Sequence[SeriesDecl]) -> dict[int, Series]:
        """Insert or find the series; wire id → Series."""
        self._exists(stream.run_id)
        keys = {decl.id: (decl.stage, decl.scope, decl.kind, decl.layer) for decl in decls}
        known = self._series(stream, keys.values())
        fresh = [
            (stream.run_id, stream.rank, *key)
            for key in dict.fromkeys(keys.values())
            if key not in known
        ]
        if fresh:
            groups.insert(self._db, "series", NAME, fresh)
            known = self._series(stream, keys.values())
        found = {wire_id: known[key] for wire_id, key in keys.items()}
        place = (stream.run_id, stream.rank, stream.epoch)
        groups.insert(
            self._db,
            "declarations",
            ("run_id", "rank", "epoch", "wire_id", "series_n"),
            [(*place, wire_id, series.id) for wire_id, series in found.items()],
            "ON CONFLICT (run_id, rank, epoch, wire_id) DO UPDATE SET series_n = excluded.series_n",
        )
        return found

    def _series(
        self, stream: Stream, keys: Iterable[tuple[str, str, str, str]]
    ) -> dict[tuple[str, str, str, str], Series]:
        """Those of `keys` (stage, scope, kind, layer) that are known."""
        places = [(stream.run_id, stream.rank, *key) for key in dict.fromkeys(keys)]
        found: dict[tuple[str, str, str, str], Series] = {}
        for row in groups.select(self._db, "series", ("n", *NAME), NAME, places):
            one = Series(**dict(zip(("id", *NAME), row, strict=True)))
            found[one.stage, one.scope, one.kind, one.layer] = one
        return found

    def append_journal(
        self, stream: Stream, lane: str, first: int, last: int, frame: bytes, now: float
    ) -> int:
        """One received batch as it came; returns the journal row's number."""
        self._exists(stream.run_id)
        number = self._row_number()
        place = (number, stream.run_id, stream.rank, stream.epoch)
        self._journal.append((*place, lane, first, last, now, frame))
        return number

    def _row_number(self) -> int:
        """Number of the next journal row; those of a run only grow."""
        number = next(self._numbers, None)
        if number is None:
            self._numbers = self._fresh_numbers()
            number = next(self._numbers)
        return number

    def _fresh_numbers(self) -> Iterator[int]:
        if self._db.dialect.name == "postgresql":
            some = text("SELECT nextval('journal_n_seq') FROM generate_series(1, :count)")
            return iter(sorted(self._db.execute(some, {"count": NUMBERS_AT_ONCE}).scalars()))
        # This transaction is the only writer. Not the greatest row: the compactor may have taken
        # that away already.
        last = text("SELECT seq FROM sqlite_sequence WHERE name = 'journal'")
        return itertools.count((self._db.execute(last).scalar() or 0) + 1)

    def compact(
        self,
        run_id: str,
        upto: int,
        rows: Sequence[int],
        old: Sequence[ChunkRef],
        axes: Sequence[bytes],
        fresh: Sequence[FreshChunk],
        spans: Sequence[FreshSpan],
    ) -> None:
        """Journal rows become chunks, all at once. A row that could not be read stays."""
        self._exists(run_id)
        chunks.replace(self._db, run_id, old, axes, fresh)
        chunks.add_spans(self._db, run_id, spans)
        for some in chunks.batches(rows):
            self._db.execute(delete(t.journal).where(t.journal.c.n.in_(some)))
        self._upsert(t.compactions, ["run_id"], {"run_id": run_id, "upto": upto})

    def put_rule_state(self, run_id: str, upto: int, data: bytes, at: float) -> None:
        """What the rules know after journal row `upto`."""
        self._exists(run_id)
        row = {"run_id": run_id, "upto": upto, "at": at, "data": data}
        self._upsert(t.rule_states, ["run_id"], row)

    def add_gap(
        self, stream: Stream, lane: str, first: int, last: int, reason: str, points: int, at: float
    ) -> None:
        """Records that will never come."""
        self._exists(stream.run_id)
        row = {"lane": lane, "first": first, "last": last, "reason": reason, "points": points}
        self._db.execute(t.gaps.insert().values(**of_stream(stream), **row, at=at))

    # --- findings, incidents, commands --------------------------------------------------------

    def add_findings(self, findings: Sequence[Finding]) -> list[Finding]:
        """Insert or ignore by `Finding.id`; returns those that were new."""
        for run_id in {finding.run_id for finding in findings}:
            self._exists(run_id)
        return [
            finding
            for finding in findings
            if self._insert_or_ignore(
                t.findings,
                ["id"],
                {
                    "id": finding.id,
                    "run_id": finding.run_id,
                    "step": finding.step,
                    "severity": int(finding.severity),
                    "body": pack(finding),
                },
            )
        ]

    def put_incident(self, incident: Incident) -> None:
        """Insert or replace."""
        self._exists(incident.run_id)
        row = {
            "id": incident.id,
            "run_id": incident.run_id,
            "state": incident.state.value,
            "body": pack(incident),
        }
        self._upsert(t.incidents, ["id"], row)

    def insert_command(self, command: Command) -> Command:
        """Insert, or return the command that already has this idempotency key."""
        self._exists(command.run_id)
        if self._insert_or_ignore(t.commands, ["key"], _command_row(command)):
            return command
        query = select(t.commands.c.body).where(t.commands.c.key == command.key)
        return unpack(self._db.execute(query).scalar_one(), Command)

    def put_command(self, command: Command) -> None:
        """Insert or replace."""
        self._exists(command.run_id)
        self._upsert(t.commands, ["id"], _command_row(command))

    def command(self, command_id: str) -> Command | None:
        """A command as this transaction sees it."""
        query = select(t.commands.c.body).where(t.commands.c.id == command_id)
        body = self._db.execute(query).scalar()
        return None if body is None else unpack(body, Command)

    # --- marks, checkpoints, reports ----------------------------------------------------------

    def add_mark(self, mark: RunMark) -> None:
        """A mark on the time axis."""
        self._exists(mark.run_id)
        row = {"run_id": mark.run_id, "step": mark.step, "body": pack(mark)}
        self._db.execute(t.marks.insert().values(row))

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """A checkpoint the run reported."""
        self._exists(checkpoint.run_id)
        row = {"run_id": checkpoint.run_id, "step": checkpoint.step, "body": pack(checkpoint)}
        self._db.execute(t.checkpoints.insert().values(row))

    def set_coverage(self, run_id: str, coverage: Coverage) -> None:
        """What the run measures from now on."""
        row = update(t.runs).where(t.runs.c.id == run_id)
        self._db.execute(row.values(coverage=pack(coverage)))

    def add_report(
        self, run_id: str, what: str, step: int, at: float, data: bytes, *, rank: int = 0
    ) -> None:
        """A non-finite report, forensics or SDK problem, msgpack as it came."""
        self._exists(run_id)
        row = {"run_id": run_id, "rank": rank, "what": what, "step": step, "at": at, "data": data}
        self._db.execute(t.reports.insert().values(row))

    # --- audit and keys -----------------------------------------------------------------------

    def audit(
        self,
        *,
        at: float,
        actor: str,
        role: str,
        via: str,
        action: str,
        run_id: str = "",
        target: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Append a row to the hash chain."""
        newest = select(t.audit.c.hash).order_by(t.audit.c.n.desc()).limit(1)
        previous = self._db.execute(newest).scalar() or ""
        row = {
            "at": at,
            "actor": actor,
            "role": role,
            "via": via,
            "action": action,
            "run_id": run_id,
            "target": target,
            "detail": canonical_json(detail or {}),
        }
        self._db.execute(t.audit.insert().values(**row, hash=audit_hash(previous, row)))

    def put_token(self, token: dict[str, Any]) -> None:
        """Insert or replace by `id`."""
        row = {"id": token["id"], "sha256": token["sha256"], "body": pack(token)}
        self._upsert(t.tokens, ["id"], row)

    def put_session(self, session: dict[str, Any]) -> None:
        """Insert or replace by `sha256`."""
        row = {"sha256": session["sha256"], "body": pack(session)}
        self._upsert(t.sessions, ["sha256"], row)

    def put_login_code(self, code: dict[str, Any]) -> None:
        """Insert."""
        row = {"sha256": code["sha256"], "expires_at": code["expires_at"], "body": pack(code)}
        self._db.execute(t.login_codes.insert().values(row))

    def purge_logins(self, now: float) -> int:
        """Forget sessions and login codes that have expired; how many there were."""
        old = self._db.execute(delete(t.login_codes).where(t.login_codes.c.expires_at <= now))
        rows = self._db.execute(select(t.sessions.c.sha256, t.sessions.c.body)).all()
        ended = [
            row.sha256 for row in rows if msgspec.msgpack.decode(row.body)["expires_at"] <= now
        ]
        for some in chunks.batches(ended):
            self._db.execute(delete(t.sessions).where(t.sessions.c.sha256.in_(some)))
        return old.rowcount + len(ended)

    def take_login_code(self, sha256: str, now: float) -> dict[str, Any] | None:
        """The unused, unexpired code, marked used; None otherwise."""
        code = t.login_codes.c
        usable = (code.sha256 == sha256) & (code.used_at.is_(None)) & (code.expires_at > now)
        body = self._db.execute(select(code.body).where(usable)).scalar()
        if body is None:
            return None
        self._db.execute(update(t.login_codes).where(code.sha256 == sha256).values(used_at=now))
        return msgspec.msgpack.decode(body)


def _command_row(command: Command) -> dict[str, Any]:
    return {
        "id": command.id,
        "key": command.key,
        "run_id": command.run_id,
        "state": command.state,
        "body": pack(command),
    }
