"""Retention, pinned runs, deleted runs; indexes of long lists."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Three small tables and two indexes."""
    op.create_table(
        "retention",
        sa.Column("project", sa.Text(), primary_key=True, nullable=False),
        sa.Column("days", sa.Float()),
    )
    op.create_table(
        "pins",
        sa.Column("run_id", sa.Text(), primary_key=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )
    op.create_table(
        "removals",
        sa.Column("run_id", sa.Text(), primary_key=True, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
    )
    op.create_index("series_run", "series", ["run_id", "n"])
    op.create_index("runs_project", "runs", ["project", "n"])
