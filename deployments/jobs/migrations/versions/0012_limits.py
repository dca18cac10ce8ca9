"""Add the clients of jobs and the limits of keys, and create the table of the clients' daily use."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Adds the columns, the index and the table. Earlier jobs are charged to their owners."""
    op.add_column("jobs", sa.Column("client", sa.String(128), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("charged_until", sa.Float(53)))
    op.execute("UPDATE jobs SET client = owner WHERE owner <> ''")
    op.create_index("jobs_by_client_and_state", "jobs", ["client", "state"])
    op.add_column("api_keys", sa.Column("limits", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "usage",
        sa.Column("day", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("client", sa.String(128), primary_key=True),
        sa.Column("uploads", sa.BigInteger(), nullable=False),
        sa.Column("upload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpu_seconds", sa.Float(53), nullable=False),
    )


def downgrade() -> None:
    """Drops the table, the index and the columns."""
    op.drop_table("usage")
    op.drop_index("jobs_by_client_and_state", "jobs")
    with op.batch_alter_table("api_keys") as table:
        table.drop_column("limits")
    with op.batch_alter_table("jobs") as table:
        table.drop_column("charged_until")
        table.drop_column("client")
