"""Add the batch that a job belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the column and its index. Older jobs belong to no batch."""
    op.add_column("jobs", sa.Column("batch_id", sa.String(64)))
    op.create_index("jobs_by_batch", "jobs", ["batch_id", "number"])


def downgrade() -> None:
    """Drops them. The jobs stay."""
    op.drop_index("jobs_by_batch", "jobs")
    with op.batch_alter_table("jobs") as table:
        table.drop_column("batch_id")
