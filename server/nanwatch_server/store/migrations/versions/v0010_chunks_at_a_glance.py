"""On SQLite an index alone answers where the chunks of a series lie, not a page of each chunk."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Bigger by about 40 bytes a chunk of 4,096 points. PostgreSQL keeps blobs apart from rows."""
    if op.get_bind().dialect.name != "sqlite":
        return
    columns = ["series_n", "run_id", "seq", "points", "low", "high", "in_order", "axis_n", "width"]
    op.create_index("chunks_glance", "chunks", columns, if_not_exists=True)
