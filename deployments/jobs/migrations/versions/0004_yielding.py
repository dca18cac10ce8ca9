"""Add the fencing token of the claim that was asked to give up its slot (preemption)."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column. Older jobs were never asked."""
    op.add_column("jobs", sa.Column("yield_token", sa.Integer()))


def downgrade() -> None:
    """Drops the column."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("yield_token")
