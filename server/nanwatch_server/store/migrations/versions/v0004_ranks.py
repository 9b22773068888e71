"""Ranks of a run, and how many of them each process belonged to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _int(name: str, *, key: bool = False) -> sa.Column:
    return sa.Column(name, sa.BigInteger(), nullable=False, primary_key=key, autoincrement=False)


def upgrade() -> None:
    """What is stored came from trainings of one process."""
    for name, default in (("world", "1"), ("generation", "0")):
        column = sa.Column(name, sa.BigInteger(), nullable=False, server_default=default)
        op.add_column("epochs", column)
    op.create_table(
        "ranks",
        sa.Column("run_id", sa.Text(), nullable=False, primary_key=True),
        _int("rank", key=True),
        _int("world"),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("last_seen_at", sa.Float(), nullable=False),
        _int("last_step"),
        sa.Column("ended_at", sa.Float()),
        sa.Column("bad_step", sa.BigInteger()),
        sa.Column("bad_at", sa.Float()),
        sa.Column("bad_where", sa.Text(), nullable=False, server_default=""),
    )
