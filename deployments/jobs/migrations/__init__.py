"""The schema's history, by Alembic."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from wan22_bridge.files import locked

_MIGRATIONS_LOCK = 0x77616E3231


def upgrade(engine: Engine) -> None:
    """Brings the schema to the newest revision; safe to call from several processes at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with _one_at_a_time(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATIONS_LOCK})
            connection.commit()
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            if engine.dialect.name == "postgresql":
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATIONS_LOCK})
                connection.commit()


def _one_at_a_time(engine: Engine) -> AbstractContextManager[None]:
    """SQLite has no advisory locks: a file beside the database holds the others off. It makes the folder too."""
    if engine.dialect.name != "sqlite":
        return nullcontext()
    path = Path(engine.url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    return locked(path.with_name(f".{path.name}.migrating"))
