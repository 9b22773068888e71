"""Tables of the database (SQLAlchemy Core). Who reads and writes them: `reads`, `writes`.

Values of metrics live only inside blobs: SQLite would turn a bound NaN into NULL.
Blobs named `body` are msgpack of the domain's dataclasses; columns beside them are for searching.
`journal`, `axes`, `chunks` and `spans` are partitioned by run on PostgreSQL, where their primary
key is (n, run_id): migration 0005, decision 0023.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite numbers rows by itself only for a column of type INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")

_NEVER_AGAIN: dict[str, Any] = {"sqlite_autoincrement": True}
"""The number of a row that was deleted is not given to another: others remember it."""


class FreeText(TypeDecorator[str]):
    """Text that a person or program chose. PostgreSQL cannot hold NUL, so no database may."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """Refuse what one of the databases would refuse, or change."""
        if value is not None and "\0" in value:
            raise ValueError("expected text without NUL characters")
        return value


def _number() -> Column:
    return Column("n", RowId, primary_key=True, autoincrement=True)


def _text(name: str, *, primary_key: bool = False, default: str | None = None) -> Column:
    return Column(name, Text, nullable=False, primary_key=primary_key, server_default=default)


def _free(name: str, *, default: str | None = None) -> Column:
    return Column(name, FreeText, nullable=False, server_default=default)


def _int(name: str, *, primary_key: bool = False) -> Column:
    return Column(name, BigInteger, nullable=False, primary_key=primary_key, autoincrement=False)


def _time(name: str) -> Column:
    return Column(name, Float, nullable=False)


def _blob(name: str) -> Column:
    return Column(name, LargeBinary, nullable=False)


runs = Table(
    "runs",
    metadata,
    _number(),
    _text("id"),
    _free("project"),
    _free("name"),
    _time("created_at"),
    _time("started_at"),
    _blob("config"),
    _blob("facts"),
    Column("control", LargeBinary),
    _time("last_seen_at"),
    _int("last_step"),
    Column("ended_at", Float),
    _free("end_reason"),
    Column("exit_code", BigInteger),
    Column("coverage", LargeBinary),
    UniqueConstraint("id"),
    Index("runs_project", "project", "n"),
)

epochs = Table(
    "epochs",
    metadata,
    _text("run_id", primary_key=True),
    _int("rank", primary_key=True),
    _int("epoch", primary_key=True),
    _time("started_at"),
    _time("seen_at"),
    _int("live"),
    Column("world", BigInteger, nullable=False, server_default="1"),
    Column("generation", BigInteger, nullable=False, server_default="0"),
)

ranks = Table(
    "ranks",
    metadata,
    _text("run_id", primary_key=True),
    _int("rank", primary_key=True),
    _int("world"),
    _free("host"),
    _time("last_seen_at"),
    _int("last_step"),
    Column("ended_at", Float),
    Column("bad_step", BigInteger),
    Column("bad_at", Float),
    _free("bad_where", default=""),
)
"""Of trainings with several ranks: what is known of each."""

streams = Table(
    "streams",
    metadata,
    _text("run_id", primary_key=True),
    _int("rank", primary_key=True),
    _int("epoch", primary_key=True),
    _text("lane", primary_key=True),
    _int("high"),
)

journal = Table(
    "journal",
    metadata,
    _number(),
    _text("run_id"),
    _int("rank"),
    _int("epoch"),
    _text("lane"),
    _int("first"),
    _int("last"),
    _time("at"),
    _blob("frame"),
    Index("journal_place", "run_id", "rank", "epoch", "lane", "first", unique=True),
    Index("journal_run", "run_id", "n"),
    **_NEVER_AGAIN,
)

axes = Table(
    "axes",
    metadata,
    _number(),
    _text("run_id"),
    _blob("data"),
    Index("axes_run", "run_id"),
    **_NEVER_AGAIN,
)
"""Steps and times of chunks; series that were measured together share one."""

_GLANCE = ("points", "low", "high", "in_order", "axis_n", "width")

chunks = Table(
    "chunks",
    metadata,
    _number(),
    _text("run_id"),
    _int("series_n"),
    _int("seq"),
    _int("points"),
    _int("low"),
    _int("high"),
    _int("in_order"),
    _int("axis_n"),
    _int("width"),
    # Before the values: a reader of the summary then does not walk over them.
    _blob("summary"),
    _blob("data"),
    Index("chunks_place", "series_n", "seq", "run_id", unique=True),
    Index("chunks_axis", "axis_n"),
    # All of a reference: the chunks themselves, each on a page of its own, need not be read.
    # PostgreSQL keeps blobs apart from their rows, of which a page holds many.
    Index("chunks_glance", "series_n", "run_id", "seq", *_GLANCE).ddl_if(dialect="sqlite"),
    **_NEVER_AGAIN,
)
"""Up to 4,096 points of one series. Never changed: a chunk that was not full is replaced.

Retention takes the points away and leaves the summary: `data` is empty then and `axis_n` is 0."""

spans = Table(
    "spans",
    metadata,
    _number(),
    _text("run_id"),
    _int("series_n"),
    _int("level"),
    _int("first"),
    _int("low"),
    _int("high"),
    _int("width"),
    _blob("data"),
    Index("spans_place", "series_n", "level", "first", "run_id", unique=True),
    **_NEVER_AGAIN,
)
"""Summaries of 16, 256, … full chunks, the first of which is number `first` of its series."""

compactions = Table("compactions", metadata, _text("run_id", primary_key=True), _int("upto"))
"""Journal rows up to `upto` are in chunks."""

rule_states = Table(
    "rule_states",
    metadata,
    _text("run_id", primary_key=True),
    _int("upto"),
    _time("at"),
    _blob("data"),
)
"""What the rules knew after journal row `upto`."""

gaps = Table(
    "gaps",
    metadata,
    _number(),
    _text("run_id"),
    _int("rank"),
    _int("epoch"),
    _text("lane"),
    _int("first"),
    _int("last"),
    _free("reason"),
    _int("points"),
    _time("at"),
    Index("gaps_run", "run_id", "n"),
)

series = Table(
    "series",
    metadata,
    _number(),
    _text("run_id"),
    _int("rank"),
    _text("stage"),
    _text("scope"),
    _text("kind"),
    _text("layer"),
    UniqueConstraint("run_id", "rank", "stage", "scope", "kind", "layer"),
    Index("series_run", "run_id", "n"),
)

declarations = Table(
    "declarations",
    metadata,
    _text("run_id", primary_key=True),
    _int("rank", primary_key=True),
    _int("epoch", primary_key=True),
    _int("wire_id", primary_key=True),
    _int("series_n"),
)

findings = Table(
    "findings",
    metadata,
    _number(),
    _free("id"),
    _text("run_id"),
    _int("step"),
    _int("severity"),
    _blob("body"),
    UniqueConstraint("id"),
    Index("findings_run", "run_id", "n"),
)

incidents = Table(
    "incidents",
    metadata,
    _number(),
    _text("id"),
    _text("run_id"),
    _text("state"),
    _blob("body"),
    UniqueConstraint("id"),
    Index("incidents_run", "run_id", "n"),
    Index("incidents_state", "state", "n"),
)

commands = Table(
    "commands",
    metadata,
    _number(),
    _text("id"),
    _text("key"),
    _text("run_id"),
    _text("state"),
    _blob("body"),
    UniqueConstraint("id"),
    UniqueConstraint("key"),
    Index("commands_run", "run_id", "n"),
)

marks = Table(
    "marks",
    metadata,
    _number(),
    _text("run_id"),
    _int("step"),
    _blob("body"),
    Index("marks_run", "run_id", "n"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _number(),
    _text("run_id"),
    _int("step"),
    _blob("body"),
    Index("checkpoints_run", "run_id", "n"),
)

reports = Table(
    "reports",
    metadata,
    _number(),
    _text("run_id"),
    _text("what"),
    _int("step"),
    _time("at"),
    _blob("data"),
    Column("rank", BigInteger, nullable=False, server_default="0"),
    Index("reports_run", "run_id", "n"),
)

audit = Table(
    "audit",
    metadata,
    _number(),
    _time("at"),
    _free("actor"),
    _free("role"),
    _free("via"),
    _free("action"),
    _free("run_id"),
    _free("target"),
    _free("detail"),
    _text("hash"),
    Index("audit_run", "run_id", "n"),
)

tokens = Table(
    "tokens",
    metadata,
    _number(),
    _text("id"),
    _text("sha256"),
    _blob("body"),
    UniqueConstraint("id"),
    UniqueConstraint("sha256"),
)

sessions = Table("sessions", metadata, _text("sha256", primary_key=True), _blob("body"))

login_codes = Table(
    "login_codes",
    metadata,
    _text("sha256", primary_key=True),
    _time("expires_at"),
    Column("used_at", Float),
    _blob("body"),
)

retention = Table("retention", metadata, _text("project", primary_key=True), Column("days", Float))
"""How long points of a project are kept one by one, where it is not the server's default; NULL:
for ever."""

project_rules = Table(
    "project_rules",
    metadata,
    _text("project", primary_key=True),
    _text("text"),
    _time("updated_at"),
    _text("updated_by"),
)
"""`rules.toml` of a project: what it changes of the packaged limits."""

pins = Table("pins", metadata, _text("run_id", primary_key=True), _time("at"))
"""Runs that keep every point."""

removals = Table("removals", metadata, _text("run_id", primary_key=True), _time("at"), _int("done"))
"""Runs that were deleted, for ever: what a training still sends of one is refused. `done` is 0
while rows of it are left."""

notify_channels = Table(
    "notify_channels", metadata, _number(), _text("id"), _blob("body"), UniqueConstraint("id")
)
"""Where messages go. The body holds addresses with their secrets."""

notify_routes = Table(
    "notify_routes",
    metadata,
    _number(),
    _text("id"),
    _text("channel_id"),
    _blob("body"),
    UniqueConstraint("id"),
)

notify_outbox = Table(
    "notify_outbox",
    metadata,
    _number(),
    _text("key"),
    _text("channel_id"),
    _text("run_id"),
    _text("incident_id"),
    _text("what"),
    _int("severity"),
    _time("created_at"),
    _time("due_at"),
    _time("expires_at"),
    _int("quiet"),
    _text("state"),
    _int("tries"),
    Column("done_at", Float),
    _free("detail"),
    UniqueConstraint("key"),
    Index("notify_outbox_due", "state", "due_at"),
    Index("notify_outbox_told", "channel_id", "run_id", "n"),
    Index("notify_outbox_run", "run_id", "n"),
    Index("notify_outbox_incident", "incident_id"),
)
"""What is to be said, written with the incident; afterwards the log of what was said."""
