"""What a run measures, and which rank a report came from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Both columns are new; what is stored came from rank 0 or did not say."""
    op.add_column("runs", sa.Column("coverage", sa.LargeBinary()))
    op.add_column("reports", sa.Column("rank", sa.BigInteger(), nullable=False, server_default="0"))
