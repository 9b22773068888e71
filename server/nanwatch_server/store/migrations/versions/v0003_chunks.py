"""Chunks and their summaries, how far a run's journal is in them, what the rules knew."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ONCE: dict[str, Any] = {"sqlite_autoincrement": True}
_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _number() -> sa.Column:
    return sa.Column("n", _ROW_ID, primary_key=True, autoincrement=True)


def _int(name: str) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _text(name: str, *, key: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=False, primary_key=key)


def _blob(name: str) -> sa.Column:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Journals are compacted by and by; from now on no row number is given twice."""
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("journal", recreate="always", table_kwargs=_ONCE):
            pass
    op.create_table("axes", _number(), _text("run_id"), _blob("data"), **_ONCE)
    op.create_index("axes_run", "axes", ["run_id"])
    op.create_table(
        "chunks",
        _number(),
        _text("run_id"),
        *map(_int, ("series_n", "seq", "points", "low", "high", "in_order", "axis_n", "width")),
        _blob("summary"),
        _blob("data"),
        **_ONCE,
    )
    op.create_index("chunks_place", "chunks", ["series_n", "seq"], unique=True)
    op.create_index("chunks_axis", "chunks", ["axis_n"])
    op.create_table(
        "spans",
        _number(),
        _text("run_id"),
        *map(_int, ("series_n", "level", "first", "low", "high", "width")),
        _blob("data"),
        **_ONCE,
    )
    op.create_index("spans_place", "spans", ["series_n", "level", "first"], unique=True)
    op.create_table("compactions", _text("run_id", key=True), _int("upto"))
    op.create_table(
        "rule_states",
        _text("run_id", key=True),
        _int("upto"),
        sa.Column("at", sa.Float(), nullable=False),
        _blob("data"),
    )
