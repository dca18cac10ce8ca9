"""Create the table of the machine's use over time."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Creates the table, which the dispatcher fills with a row a minute. Its key also serves reading and pruning."""
    op.create_table(
        "stats_history",
        sa.Column("minute", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("node", sa.String(255), primary_key=True),
        sa.Column("cpu_percent", sa.Float(53), nullable=False),
        sa.Column("ram_used_gb", sa.Float(53), nullable=False),
        sa.Column("ram_total_gb", sa.Float(53), nullable=False),
        sa.Column("gpu_percent", sa.Float(53), nullable=False),
        sa.Column("vram_used_mb", sa.Float(53), nullable=False),
        sa.Column("vram_total_mb", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("stats_history")
