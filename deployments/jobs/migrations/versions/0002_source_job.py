"""Add the job whose video or parameters a job reuses."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column. Older jobs have no source job."""
    op.add_column("jobs", sa.Column("source_job_id", sa.String(64)))


def downgrade() -> None:
    """Drops the column."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("source_job_id")
