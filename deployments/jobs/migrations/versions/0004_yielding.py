"""Which claim of a job is to give its slot to another."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column; no job was asked to."""
    op.add_column("jobs", sa.Column("yield_token", sa.Integer()))


def downgrade() -> None:
    """Removes it."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("yield_token")
