"""The migrations of the job database, run by Alembic."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from wan22_bridge.files import locked

_MIGRATIONS_LOCK = 0x77616E3231
"""Key of the PostgreSQL advisory lock that one migrating process holds."""


def upgrade(engine: Engine) -> None:
    """Migrates the schema to the newest revision. Several processes may call this at once."""
    with _exclusive(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATIONS_LOCK})
            connection.commit()
        try:
            present = MigrationContext.configure(connection).get_current_revision()
            connection.rollback()  # so that each migration has a transaction of its own
            if present != _newest():
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        finally:
            if engine.dialect.name == "postgresql":
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATIONS_LOCK})
                connection.commit()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


@cache
def _newest() -> str | None:
    """Returns the newest revision. Every process of the service compares it, and few have to run Alembic's scripts."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _exclusive(engine: Engine) -> AbstractContextManager[None]:
    """Locks out other processes by a file beside the database, because SQLite has no advisory locks.

    Creates the database's folder as well.
    """
    if engine.dialect.name != "sqlite":
        return nullcontext()
    path = Path(engine.url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    return locked(path.with_name(f".{path.name}.migrating"))
