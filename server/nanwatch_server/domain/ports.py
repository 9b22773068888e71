"""What the server's parts ask of the store, as Protocols: `store` implements, `app` injects.

Guarantees of an implementation: every method is safe to call from any thread; writes of one
`write()` block are one transaction (all or none, durable when the block ends); reads see every
transaction that ended before the call; numbers come back bit for bit, NaN included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nanwatch.contract.frames import CommandResult, RunInfo, SeriesDecl, ServerFrame
from nanwatch_server.domain.models import (
    Checkpoint,
    Command,
    Coverage,
    Finding,
    Incident,
    JournalRow,
    ProjectRules,
    RankState,
    Run,
    RunMark,
    Series,
    Stream,
)
from nanwatch_server.domain.notify import Channel, Delivery, Route


class NoticeWrites(Protocol):
    """Notifications, inside a transaction."""

    def put_channel(self, channel: Channel) -> None: ...
    def delete_channel(self, channel_id: str, now: float) -> None:
        """With its routes; what waits for it is skipped."""
        ...

    def put_route(self, route: Route) -> None: ...
    def delete_route(self, route_id: str) -> None: ...
    def add_delivery(self, delivery: Delivery) -> bool:
        """Insert or ignore by `key`; True if it was new."""
        ...

    def put_delivery(self, delivery: Delivery) -> None:
        """Replace by `key`; nothing if the row is gone."""
        ...

    def deliveries_of(self, incident_id: str, channel_id: str) -> list[Delivery]:
        """What this channel was or will be told of an incident, oldest first."""
        ...

    def trim_deliveries(self, before: float, *, keep: int, waiting_max: int, now: float) -> int:
        """Bound the outbox: finished rows created before `before`, or beyond the newest `keep`, go;
        of more than `waiting_max` that wait the oldest fail. How many rows that were."""
        ...


class NoticeReads(Protocol):
    """Notifications, as stored."""

    def channels(self) -> list[Channel]: ...
    def routes(self) -> list[Route]: ...
    def deliveries(
        self, *, run_id: str = "", channel_id: str = "", limit: int = 100, after: int = 0
    ) -> list[Delivery]:
        """Newest first; `after` is the `n` of the last one seen."""
        ...

    def due_channels(self, now: float) -> list[str]:
        """Ids of channels for which something waits that may be sent."""
        ...

    def due_deliveries(self, now: float, limit: int, channel_id: str = "") -> list[Delivery]:
        """Those that wait and may be sent (to one channel), oldest first."""
        ...

    def next_due(self) -> float | None:
        """When the next one may be sent; None if none waits."""
        ...

    def last_sent(self, channel_id: str, run_id: str) -> float:
        """When this channel was last told of this run; 0 if never."""
        ...


class UnitOfWork(NoticeWrites, Protocol):
    """One transaction. Everything that must be true together is written through one of these."""

    def run(self, run_id: str) -> Run | None:
        """The run as this transaction sees it."""
        ...

    def upsert_run(self, info: RunInfo, control: dict[str, Any] | None, now: float) -> Run: ...
    def touch_run(self, run_id: str, *, last_seen_at: float, last_step: int) -> None: ...
    def end_run(
        self, run_id: str, *, at: float | None, reason: str, exit_code: int | None
    ) -> None: ...
    def set_retention(self, project: str, days: float | None) -> None:
        """How long points of the project are kept one by one; None: for ever."""
        ...

    def clear_retention(self, project: str) -> None:
        """As the server's default says, from now on."""
        ...

    def put_rules(self, rules: ProjectRules) -> None:
        """Limits of a project; an empty text is the packaged ones."""
        ...

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
        """Remember the epoch; True if it is the live one of its (run, rank) from now on.

        Not live, only allowed to backfill: an epoch that a later one already replaced.
        """
        ...

    def put_rank(self, stream: Stream, *, world: int, host: str, now: float) -> None:
        """A rank of several has connected."""
        ...

    def touch_rank(self, stream: Stream, *, last_seen_at: float, last_step: int) -> None:
        """Sign of life of a rank of several."""
        ...

    def end_rank(self, stream: Stream, at: float) -> None:
        """A rank of several has said goodbye."""
        ...

    def rank_bad(self, stream: Stream, *, step: int, at: float, where: str) -> None:
        """A rank of several met a value that is not finite; the smallest step is kept."""
        ...

    def expect(self, streams: Iterable[Stream]) -> None:
        """`high_water` of these will be asked for: look them up together."""
        ...

    def high_water(self, stream: Stream, lane: str) -> int:
        """Highest contiguous sequence number stored; -1 if none."""
        ...

    def set_high_water(self, stream: Stream, lane: str, seq: int) -> None: ...
    def declare(self, stream: Stream, decls: Sequence[SeriesDecl]) -> dict[int, Series]:
        """Insert or find the series; wire id → Series."""
        ...

    def append_journal(
        self, stream: Stream, lane: str, first: int, last: int, frame: bytes, now: float
    ) -> int:
        """One received batch as it came; returns the journal row's number."""
        ...

    def put_rule_state(self, run_id: str, upto: int, data: bytes, at: float) -> None:
        """What the rules know after journal row `upto`."""
        ...

    def add_gap(
        self, stream: Stream, lane: str, first: int, last: int, reason: str, points: int, at: float
    ) -> None:
        """Records that will never come: declared by the client, or refused by the server."""
        ...

    def add_findings(self, findings: Sequence[Finding]) -> list[Finding]:
        """Insert or ignore by `Finding.id`; returns those that were new."""
        ...

    def put_incident(self, incident: Incident) -> None: ...
    def pin(self, run_id: str, now: float | None) -> None:
        """The run keeps every point; `now=None` takes that back."""
        ...

    def insert_command(self, command: Command) -> Command:
        """Insert, or return the command that already has this idempotency key."""
        ...

    def put_command(self, command: Command) -> None: ...
    def command(self, command_id: str) -> Command | None: ...
    def add_mark(self, mark: RunMark) -> None: ...
    def add_checkpoint(self, checkpoint: Checkpoint) -> None: ...
    def set_coverage(self, run_id: str, coverage: Coverage) -> None:
        """What the run measures from now on."""
        ...

    def add_report(
        self, run_id: str, what: str, step: int, at: float, data: bytes, *, rank: int = 0
    ) -> None:
        """A non-finite report, forensics or SDK problem, msgpack as it came."""
        ...

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
        ...

    def put_token(self, token: dict[str, Any]) -> None:
        """Insert or replace by `id`. Needs `id` and `sha256`; other keys are kept as they are."""
        ...

    def put_session(self, session: dict[str, Any]) -> None:
        """Insert or replace by `sha256`; other keys are kept as they are."""
        ...

    def put_login_code(self, code: dict[str, Any]) -> None:
        """Insert. Needs `sha256` and `expires_at`; other keys are kept as they are."""
        ...

    def take_login_code(self, sha256: str, now: float) -> dict[str, Any] | None:
        """The unused, unexpired code, marked used; None otherwise."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Signs of life that runs of a list must have."""

    ended: bool = False
    seen_since: float | None = None
    """Last seen not before this…"""
    or_these: Sequence[str] = ()
    """…or one of these."""
    seen_before: float | None = None


class Store(NoticeReads, Protocol):
    """Reads, and `write()` for transactions."""

    def write(self, *, bulk: bool = False) -> AbstractContextManager[UnitOfWork]:
        """`bulk`: may be large and can wait while the disk is full."""
        ...

    def run(self, run_id: str) -> Run | None: ...
    def runs(
        self,
        *,
        query: str = "",
        project: str = "",
        limit: int = 50,
        after: str = "",
        signs: Signs | None = None,
    ) -> tuple[list[Run], str | None]: ...
    def series_of(self, run_id: str) -> list[Series]: ...
    def series_page(
        self, run_id: str, *, query: str = "", limit: int = 200, after: int = 0
    ) -> tuple[list[Series], int | None]:
        """In the order of declaration; the second value continues when given as `after`."""
        ...

    def incidents(
        self, *, run_id: str = "", open_only: bool = False, run_ids: Sequence[str] | None = None
    ) -> list[Incident]: ...
    def incident(self, incident_id: str) -> Incident | None: ...
    def command(self, command_id: str) -> Command | None: ...
    def commands(self, run_id: str, *, open_only: bool = False) -> list[Command]: ...
    def ranks(self, run_id: str) -> list[RankState]:
        """Ranks that have connected, in order; empty for a training of one process."""
        ...

    def groups(self, run_id: str) -> dict[Stream, tuple[int, int]]:
        """(world size, generation) of every process of the run."""
        ...

    def rules(self, project: str) -> ProjectRules | None:
        """Limits of a project, if it ever had any of its own."""
        ...

    def projects(self) -> list[dict[str, Any]]:
        """Projects that have runs or limits of their own, by name."""
        ...

    def marks(self, run_id: str) -> list[RunMark]: ...
    def checkpoints(self, run_id: str) -> list[Checkpoint]: ...
    def reports(self, run_id: str, what: str = "") -> list[dict[str, Any]]:
        """Reports of the run (of one kind), in order of arrival."""
        ...

    def audit_rows(
        self, *, run_id: str = "", limit: int = 100, after: int = 0
    ) -> list[dict[str, Any]]: ...
    def token(self, sha256: str) -> dict[str, Any] | None: ...
    def tokens(self) -> list[dict[str, Any]]: ...
    def session(self, sha256: str) -> dict[str, Any] | None: ...
    def high_water(self, stream: Stream, lane: str) -> int: ...
    def declarations(self, stream: Stream) -> dict[int, Series]:
        """Wire id → Series, as declared so far."""
        ...

    def journal(
        self, run_id: str, *, after: int = 0, before: int | None = None, limit: int = 256
    ) -> list[JournalRow]:
        """Rows with `after` < `id` < `before`, in commit order."""
        ...

    def rule_state(self, run_id: str) -> tuple[int, bytes] | None:
        """(journal row, what the rules knew after it), if it was ever saved."""
        ...

    def gaps(self, run_id: str) -> list[dict[str, Any]]: ...
    def findings(self, run_id: str) -> list[Finding]: ...
    def audit_break(self) -> int | None:
        """Number of the first audit row whose hash does not fit its contents; None if all fit."""
        ...

    def close(self) -> None: ...


class RunSession(Protocol):
    """One live connection of a run's rank 0."""

    @property
    def run_id(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    def send(self, frame: ServerFrame) -> None:
        """Thread-safe; a frame for a connection that has gone is dropped."""
        ...


class CommandDesk(Protocol):
    """Commands of runs: `control` implements, `ingest` and `pipeline` call. Thread-safe."""

    def run_connected(self, run_id: str, session: RunSession) -> None: ...
    def run_gone(self, run_id: str, session: RunSession) -> None: ...
    def accepted(self, run_id: str, command_id: str, nonce: int) -> None: ...
    def result(self, uow: UnitOfWork, run_id: str, result: CommandResult) -> Command | None:
        """The command after the run's last word; same transaction as the record's journal row."""
        ...

    def observe(
        self, run_id: str, scope: str, steps: np.ndarray, scalars: dict[str, np.ndarray]
    ) -> None:
        """Points of a block that has `lr`, for the verification of applied commands."""
        ...
