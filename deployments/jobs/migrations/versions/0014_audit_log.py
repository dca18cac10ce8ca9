"""Create the table of the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Creates the table and its index."""
    op.create_table(
        "audit_log",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("actor", sa.String(300), nullable=False),
        sa.Column("key_id", sa.String(32)),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("result", sa.String(32), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_log_by_age", "audit_log", ["at"])


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("audit_log")
