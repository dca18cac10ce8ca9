"""What generators have loaded."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the table; generators fill it as they go."""
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("replicas")
