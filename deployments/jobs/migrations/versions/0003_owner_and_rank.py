"""Whose a job is, and where its user put it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds the columns; what was there before is of one owner, and in the order of submission."""
    op.add_column("jobs", sa.Column("owner", sa.String(128), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("rank", sa.BigInteger()))


def downgrade() -> None:
    """Removes them."""
    with op.batch_alter_table("jobs") as table:
        table.drop_column("rank")
        table.drop_column("owner")
