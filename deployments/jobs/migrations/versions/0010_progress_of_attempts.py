"""Add the steps that a job's snapshots hold, and the attempts since they last advanced."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_COLUMNS = ("saved_steps", "progress_attempt", "stalled_attempts")


def upgrade() -> None:
    """Adds the columns. The earlier attempts of a job that runs now count no more."""
    for name in _COLUMNS:
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE jobs SET progress_attempt = attempt")


def downgrade() -> None:
    """Drops the columns."""
    with op.batch_alter_table("jobs") as table:
        for name in _COLUMNS:
            table.drop_column(name)
