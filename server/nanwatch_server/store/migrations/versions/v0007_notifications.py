"""Channels, routes and the outbox of notifications."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _number() -> sa.Column:
    return sa.Column("n", RowId, primary_key=True, autoincrement=True)


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False)


def _int(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.Float(), nullable=False)


def _body() -> sa.Column:
    return sa.Column("body", sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Three tables."""
    op.create_table("notify_channels", _number(), _text("id"), _body(), sa.UniqueConstraint("id"))
    op.create_table(
        "notify_routes",
        _number(),
        _text("id"),
        _text("channel_id"),
        _body(),
        sa.UniqueConstraint("id"),
    )
    op.create_table(
        "notify_outbox",
        _number(),
        *(_text(name) for name in ("key", "channel_id", "run_id", "incident_id", "what")),
        _int("severity"),
        *(_time(name) for name in ("created_at", "due_at", "expires_at")),
        _int("quiet"),
        _text("state"),
        _int("tries"),
        sa.Column("done_at", sa.Float()),
        _text("detail"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("notify_outbox_due", "notify_outbox", ["state", "due_at"])
    op.create_index("notify_outbox_told", "notify_outbox", ["channel_id", "run_id", "n"])
    op.create_index("notify_outbox_run", "notify_outbox", ["run_id", "n"])
    op.create_index("notify_outbox_incident", "notify_outbox", ["incident_id"])
