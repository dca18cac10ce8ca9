"""Store the lifetime of an API key beside its expiry, which a rotation moves forward."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Adds the column. The lifetime of an older key ends at its expiry."""
    op.add_column("api_keys", sa.Column("lifetime_seconds", sa.Float(53)))
    op.execute("UPDATE api_keys SET lifetime_seconds = expires_at - created_at WHERE expires_at IS NOT NULL")


def downgrade() -> None:
    """Drops the column."""
    with op.batch_alter_table("api_keys") as table:
        table.drop_column("lifetime_seconds")
