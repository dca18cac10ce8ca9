"""Add a job's owner and its place in a reordered queue."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the columns. Older jobs share one owner and keep the order of their submission."""
    op.add_column("jobs", sa.Column("owner", sa.String(128), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("rank", sa.BigInteger()))


def downgrade() -> None:
    """Drops both columns."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("rank")
        table.drop_column("owner")
