"""The large tables are partitioned by run on PostgreSQL; unique keys of chunks name the run."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

PARTITIONS = 16

_BLOBS = {
    "journal": ("frame",),
    "axes": ("data",),
    "chunks": ("summary", "data"),
    "spans": ("data",),
}
_PLACES = {"chunks": ["series_n", "seq"], "spans": ["series_n", "level", "first"]}
_INTS = {
    "journal": ("rank", "epoch", "first", "last"),
    "axes": (),
    "chunks": ("series_n", "seq", "points", "low", "high", "in_order", "axis_n", "width"),
    "spans": ("series_n", "level", "first", "low", "high", "width"),
}


def upgrade() -> None:
    """A unique key of a partitioned table must hold what it is partitioned by."""
    if op.get_bind().dialect.name == "postgresql":
        for name in _BLOBS:
            _partitioned(name)
        op.create_index("axes_run", "axes", ["run_id"])
        op.create_index("chunks_axis", "chunks", ["axis_n"])
        op.create_index("journal_run", "journal", ["run_id", "n"])
        place = ["run_id", "rank", "epoch", "lane", "first"]
        op.create_index("journal_place", "journal", place, unique=True)
    else:
        for name in _PLACES:
            op.drop_index(f"{name}_place", name)
    for name, place in _PLACES.items():
        op.create_index(f"{name}_place", name, [*place, "run_id"], unique=True)


def _partitioned(name: str) -> None:
    """Make the table again. It is empty: no earlier version could fill one on PostgreSQL."""
    op.drop_table(name)
    more: list[Any] = [sa.Column(one, sa.BigInteger(), nullable=False) for one in _INTS[name]]
    if name == "journal":
        more += [
            sa.Column("lane", sa.Text(), nullable=False),
            sa.Column("at", sa.Float(), nullable=False),
        ]
    more += [sa.Column(one, sa.LargeBinary(), nullable=False) for one in _BLOBS[name]]
    op.create_table(
        name,
        sa.Column("n", sa.BigInteger(), nullable=False, autoincrement=True),
        sa.Column("run_id", sa.Text(), nullable=False),
        *more,
        sa.PrimaryKeyConstraint("n", "run_id"),
        postgresql_partition_by="HASH (run_id)",
    )
    for one in _BLOBS[name]:
        # Packed already: PostgreSQL need not try once more.
        op.execute(f"ALTER TABLE {name} ALTER COLUMN {one} SET STORAGE EXTERNAL")
    for number in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE {name}_p{number:02} PARTITION OF {name}"
            f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        )
