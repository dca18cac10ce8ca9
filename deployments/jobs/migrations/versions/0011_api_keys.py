"""Create the tables of API keys and of the owners of inputs, and count, remember and deliver by owner."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_COUNT = """
    INSERT INTO job_counts (state, model, hidden, priority, block, {owner} jobs, video_bytes)
    SELECT state, model, hidden,
        CASE state WHEN 'pending' THEN priority ELSE 0 END AS priority_of_pending,
        CASE state WHEN 'pending' THEN coalesce(rank, number) / 256 ELSE 0 END AS block,
        {owner} count(*), sum(coalesce({size}, 0))
    FROM jobs GROUP BY {owner} state, model, hidden, priority_of_pending, block
"""
_SIZE = {
    "sqlite": "json_extract(output, '$.file_size_bytes')",
    "postgresql": "(output ->> 'file_size_bytes')::bigint",
}


def upgrade() -> None:
    """Creates the tables, the columns and the indexes, and counts the jobs again. Older rows have no owner."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("expires_at", sa.Float(53)),
        sa.Column("revoked_at", sa.Float(53)),
        sa.Column("last_used_at", sa.Float(53)),
    )
    op.create_table(
        "input_owners",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("owner", sa.String(128), primary_key=True),
        sa.Column("stored_at", sa.Float(53), nullable=False),
    )
    for table in ("deleted_jobs", "webhook_deliveries"):
        op.add_column(table, sa.Column("owner", sa.String(128), nullable=False, server_default=""))
    op.create_index("jobs_by_owner", "jobs", ["owner", "number"])
    op.create_index("jobs_by_owner_and_state", "jobs", ["owner", "state", "number"])
    op.create_index("webhook_deliveries_by_owner", "webhook_deliveries", ["owner", "number"])
    _count_again(by_owner=True)


def downgrade() -> None:
    """Drops the keys, the owners of inputs, the columns and the indexes, and counts the jobs of all owners together."""
    _count_again(by_owner=False)
    op.drop_index("webhook_deliveries_by_owner", "webhook_deliveries")
    op.drop_index("jobs_by_owner_and_state", "jobs")
    op.drop_index("jobs_by_owner", "jobs")
    for name in ("webhook_deliveries", "deleted_jobs"):
        with op.batch_alter_table(name) as table:
            table.drop_column("owner")
    op.drop_table("input_owners")
    op.drop_table("api_keys")


def _count_again(*, by_owner: bool) -> None:
    """Replaces the table of counts, whose primary key changes."""
    owner = [sa.Column("owner", sa.String(128), primary_key=True)] if by_owner else []
    op.drop_table("job_counts")
    op.create_table(
        "job_counts",
        sa.Column("state", sa.String(16), primary_key=True),
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("hidden", sa.Boolean(), primary_key=True),
        sa.Column("priority", sa.Integer(), primary_key=True),
        sa.Column("block", sa.BigInteger(), primary_key=True),
        *owner,
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("video_bytes", sa.BigInteger(), nullable=False),
    )
    op.execute(_COUNT.format(owner="owner," if by_owner else "", size=_SIZE[op.get_bind().dialect.name]))
