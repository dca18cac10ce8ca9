"""Add the progress of a job's attempts, and create the table of the downloads for which jobs wait."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_COLUMNS = ("saved_steps", "progress_attempt", "stalled_attempts")


def upgrade() -> None:
    """Adds the columns and the table. The earlier attempts of a job that runs now count no more.

    The pending jobs had the progress of the downloads themselves.
    """
    for name in _COLUMNS:
        op.add_column("jobs", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE jobs SET progress_attempt = attempt")
    op.execute("UPDATE jobs SET stage = 'queued', progress = 0, eta_seconds = NULL WHERE state = 'pending'")
    op.create_table(
        "model_downloads",
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("progress", sa.Float(53), nullable=False),
        sa.Column("eta_seconds", sa.Float(53)),
    )


def downgrade() -> None:
    """Drops the table and the columns."""
    op.drop_table("model_downloads")
    with op.batch_alter_table("jobs") as table:
        for name in _COLUMNS:
            table.drop_column(name)
