"""Add stored settings, maintained counts of the jobs, places of deleted jobs, and jobs hidden from the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_COUNT = """
    INSERT INTO job_counts (state, model, hidden, priority, block, jobs, video_bytes)
    SELECT state, model, hidden,
        CASE state WHEN 'pending' THEN priority ELSE 0 END AS priority_of_pending,
        CASE state WHEN 'pending' THEN rank / 256 ELSE 0 END AS block,
        count(*), sum(coalesce({size}, 0))
    FROM jobs GROUP BY state, model, hidden, priority_of_pending, block
"""
_SIZE = {
    "sqlite": "json_extract(output, '$.file_size_bytes')",
    "postgresql": "(output ->> 'file_size_bytes')::bigint",
}


def upgrade() -> None:
    """Creates the tables, the column and the indexes, gives each job an explicit place, and counts the jobs."""
    op.create_table(
        "settings",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("value", sa.JSON(), nullable=False),
    )
    op.create_table(
        "deleted_jobs",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("deleted_at", sa.Float(53), nullable=False),
    )
    op.create_table(
        "job_counts",
        sa.Column("state", sa.String(16), primary_key=True),
        sa.Column("model", sa.String(128), primary_key=True),
        sa.Column("hidden", sa.Boolean(), primary_key=True),
        sa.Column("priority", sa.Integer(), primary_key=True),
        sa.Column("block", sa.BigInteger(), primary_key=True),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("video_bytes", sa.BigInteger(), nullable=False),
    )
    op.add_column("jobs", sa.Column("hidden", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE jobs SET rank = number WHERE rank IS NULL")
    op.create_index("jobs_by_place", "jobs", ["state", "priority", "rank"])
    op.create_index("jobs_by_model", "jobs", ["state", "model", "number"])
    op.create_index("jobs_listed", "jobs", ["hidden", "number"])
    op.create_index("jobs_listed_by_state", "jobs", ["hidden", "state", "number"])
    op.execute(_COUNT.format(size=_SIZE[op.get_bind().dialect.name]))


def downgrade() -> None:
    """Drops them. A job keeps its explicit place, and cleared jobs are listed again."""
    for name in ("jobs_listed_by_state", "jobs_listed", "jobs_by_model", "jobs_by_place"):
        op.drop_index(name, "jobs")
    with op.batch_alter_table("jobs") as table:
        table.drop_column("hidden")
    for table_name in ("job_counts", "deleted_jobs", "settings"):
        op.drop_table(table_name)
