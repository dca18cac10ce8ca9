"""Which job's video a job was made from."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column; what was there before was made from no other job's video."""
    op.add_column("jobs", sa.Column("source_job_id", sa.String(64)))


def downgrade() -> None:
    """Removes it."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("source_job_id")
