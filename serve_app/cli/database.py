"""The database of a service, for commands that need no running service."""

import contextlib
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from serve_app.cli.known_models import DEFAULT_CONFIG
from serve_app.cli.terminal import warn
from wan22_bridge.errors import Wan22Error

_FILE = "sqlite:///"


def find_database(config: Path, data_dir: Path | None) -> str:
    """Returns the URL of a service's database. The default config can be absent.

    Raises:
        ConfigurationError: the config is wrong.
    """
    from serve_app.running.config import load_config
    from serve_app.settings import parse_settings

    if config == DEFAULT_CONFIG and not config.exists():
        settings = parse_settings({} if data_dir is None else {"data_dir": data_dir}).with_absolute_paths()
    else:
        _, settings = load_config(config, port=None, data_dir=data_dir, locked=False)
    assert settings.database_url is not None
    return settings.database_url


def record_action(config: Path, action: str, target: str) -> None:
    """Writes what a command has done into the audit log of the config's service, if that has a database already.

    A command on models must work on machines that don't reach the database. It then warns that the entry is missing.
    """
    from deployments.jobs.audit import Actor
    from deployments.jobs.store import JobStore

    try:
        url = find_database(config, None)
        if url.startswith(_FILE) and not Path(url.removeprefix(_FILE)).exists():
            return
        store = JobStore(url)
        with contextlib.closing(store.database):
            store.audit.record(Actor.local(), action, target)
    except (SQLAlchemyError, OSError, Wan22Error) as exc:
        warn(f"The audit log has no entry of this command: its database can't be opened ({type(exc).__name__}).")
