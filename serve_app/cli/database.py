"""The database of a service, as commands open it that need no running service."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.known_models import DEFAULT_CONFIG
from serve_app.cli.terminal import fail, warn
from wan22_bridge.errors import Wan22Error

if TYPE_CHECKING:
    from deployments.jobs.store import JobStore
    from serve_app.settings import Settings

_FILE = "sqlite:///"

ServiceConfig = Annotated[Path, typer.Option("--config", help="The Serve config of the service.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Overrides the config's data_dir.")]
DatabaseUrl = Annotated[
    str | None, typer.Option("--database-url", help="URL of the database. Overrides the config's database_url.")
]


def read_settings(config: Path, data_dir: Path | None) -> "Settings":
    """Returns a service's settings, with absolute paths. The default config can be absent.

    Raises:
        ConfigurationError: the config is wrong.
    """
    from serve_app.running.config import load_config
    from serve_app.settings import parse_settings

    if config == DEFAULT_CONFIG and not config.exists():
        return parse_settings({} if data_dir is None else {"data_dir": data_dir}).with_absolute_paths()
    return load_config(config, port=None, data_dir=data_dir, locked=False)[1]


@contextmanager
def open_store(
    config: Path, data_dir: Path | None, database_url: str | None, *, create: bool = False
) -> "Iterator[JobStore]":
    """Opens the job store of a service. An error ends the command.

    Args:
        config: the service's config.
        data_dir: replaces the config's `data_dir`.
        database_url: replaces the config's `database_url`.
        create: whether to create a missing SQLite database. Its folder must exist if the user has named it, because the
            name may be mistyped.

    Raises:
        ConfigurationError: the config or the URL is wrong.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from deployments.jobs.store import JobStore

    url = database_url or read_settings(config, data_dir).database_url
    assert url is not None
    is_named = database_url is not None or data_dir is not None
    try:
        _check_file(url, create=create, needs_folder=is_named)
        store = JobStore(url)
    except (SQLAlchemyError, OSError) as exc:
        fail(
            f"Cannot open the database: {str(exc).partition(chr(10))[0]}",
            suggestions=["Name the service's config with --config, and its data folder with --data-dir."],
        )
    try:
        yield store
    finally:
        store.database.close()


def _check_file(url: str, *, create: bool, needs_folder: bool) -> None:
    """Ends the command if the file of an SQLite database is missing and must not be created."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        return  # the store explains it
    path = Path(parsed.database or "")
    if parsed.get_backend_name() != "sqlite" or path.is_file():
        return
    if create and (path.parent.is_dir() or not needs_folder):
        warn(f"There is no database {path} yet: it is created.")
        return
    missing = f"There is no database {path}"
    if create:
        fail(
            f"{missing}, and no folder {path.parent}.",
            suggestions=["Correct the path, or create the folder if the service is new."],
        )
    fail(
        f"{missing}.",
        suggestions=["Name the service's config with --config, and its data folder with --data-dir."],
    )


def record_action(config: Path, action: str, target: str) -> None:
    """Writes what a command has done into the audit log of the config's service, if that has a database already.

    A command on models must work on machines that don't reach the database. It then warns that the entry is missing.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from deployments.jobs.audit import Actor
    from deployments.jobs.store import JobStore

    try:
        url = read_settings(config, None).database_url
        assert url is not None
        if url.startswith(_FILE) and not Path(url.removeprefix(_FILE)).exists():
            return
        store = JobStore(url)
        with closing(store.database):
            store.audit.record(Actor.local(), action, target)
    except (SQLAlchemyError, OSError, Wan22Error) as exc:
        warn(f"The audit log has no entry of this command: its database can't be opened ({type(exc).__name__}).")
