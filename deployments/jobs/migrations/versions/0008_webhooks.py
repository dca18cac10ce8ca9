"""Create the table of webhook deliveries, and add a job's own receiver."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Creates the table, its indexes and the column. Jobs that have ended already send no webhooks."""
    op.add_column("jobs", sa.Column("webhook_url", sa.Text()))
    op.create_table(
        "webhook_deliveries",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("receiver", sa.String(300), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.Float(53)),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("delivered_at", sa.Float(53)),
    )
    op.create_index("webhook_deliveries_due", "webhook_deliveries", ["state", "next_attempt_at"])
    op.create_index("webhook_deliveries_by_state", "webhook_deliveries", ["state", "number"])
    op.create_index("webhook_deliveries_by_job", "webhook_deliveries", ["job_id", "number"])
    op.create_index("webhook_deliveries_by_age", "webhook_deliveries", ["created_at"])


def downgrade() -> None:
    """Drops the table, with all webhooks that are not delivered yet, and the column."""
    op.drop_table("webhook_deliveries")
    with op.batch_alter_table("jobs") as table:
        table.drop_column("webhook_url")
