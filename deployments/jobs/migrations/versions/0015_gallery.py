"""Add the searched text, the favorites, the tags and the pending deletion of videos."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_COLUMNS = ("searched_text", "favorite", "tags", "deletion_due_at")
_CHUNK = 1000
_jobs = sa.table("jobs", *(sa.column(name) for name in ("number", "params", "searched_text")))


def upgrade() -> None:
    """Adds the columns, and writes the searched text of the present jobs."""
    op.add_column("jobs", sa.Column("searched_text", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("favorite", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("jobs", sa.Column("deletion_due_at", sa.Float(53)))
    op.create_index("jobs_by_deletion", "jobs", ["deletion_due_at"])
    _fold_prompts()


def downgrade() -> None:
    """Drops the columns. Videos whose deletion was not due yet stay."""
    op.drop_index("jobs_by_deletion", "jobs")
    with op.batch_alter_table("jobs") as table:
        for name in _COLUMNS:
            table.drop_column(name)


def _fold_prompts() -> None:
    connection, last = op.get_bind(), 0
    page = sa.select(_jobs.c.number, sa.cast(_jobs.c.params, sa.Text)).order_by(_jobs.c.number).limit(_CHUNK)
    change = sa.update(_jobs).where(_jobs.c.number == sa.bindparam("job")).values(searched_text=sa.bindparam("text"))
    while rows := connection.execute(page.where(_jobs.c.number > last)).all():
        connection.execute(change, [{"job": number, "text": _searched_text(params)} for number, params in rows])
        last = rows[-1][0]


def _searched_text(stored: str) -> str:
    params = json.loads(stored)
    prompts = dict.fromkeys([params["prompt"], *(segment["prompt"] for segment in params.get("segments") or ())])
    return " ".join(" ".join(prompts).replace("\x00", " ").casefold().split())
