"""Checks of the machine before the service starts."""

import socket
from typing import Any

from serve_app.running.config import find_address
from serve_app.settings import Settings
from wan22_bridge.errors import ConfigurationError, NotReady, StorageFailed

_BUCKET_SECONDS = 5
"""Maximum time for the bucket to answer."""


def check_machine(config: dict[str, Any], settings: Settings) -> None:
    """Checks that the port is free, the folder and the bucket can be written to, and the database answers.

    A service that needs API keys must have one, and a secret of webhooks that the settings expect in the environment
    must be there.

    Raises:
        ConfigurationError: a check failed; the message names the key in the config.
    """
    _check_port(*find_address(config))
    _check_data_folder(settings)
    _check_bucket(settings)
    _check_database(settings)
    _check_keys(find_address(config)[0], settings)
    _check_webhook_secret(settings)


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ConfigurationError(
                f"http_options.port: cannot listen on {host}:{port}: {exc.strerror}. Choose another port with --port.",
                param="http_options.port",
            ) from exc


def _check_data_folder(settings: Settings) -> None:
    from deployments.storage.folder import FolderStorage

    try:
        FolderStorage(settings.data_dir).check()
    except StorageFailed as exc:
        raise ConfigurationError(
            f"data_dir: {exc.message} Choose another folder with --data-dir.", param="data_dir"
        ) from exc


def _check_bucket(settings: Settings) -> None:
    from deployments.storage.bucket import BucketStorage

    if settings.storage_url is None:
        return
    try:
        BucketStorage(settings.data_dir, settings.storage_url, patience_seconds=_BUCKET_SECONDS).check()
    except StorageFailed as exc:
        reason = " ".join([exc.message.rstrip(".") + ":", *exc.__notes__]) + "."
        raise ConfigurationError(f"storage_url: {reason} {exc.suggestions[0]}", param="storage_url") from exc


def _check_database(settings: Settings) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from deployments.jobs.database import Database

    assert settings.database_url is not None
    try:
        Database(settings.database_url).close()
    except (SQLAlchemyError, OSError) as exc:
        reason = str(exc).partition("\n")[0]
        raise ConfigurationError(f"database_url: cannot open the database: {reason}", param="database_url") from exc


def _check_keys(host: str, settings: Settings) -> None:
    from deployments.jobs.store import JobStore
    from serve_app.api.access.first_key import require_first_key

    if settings.needs_keys(host):
        assert settings.database_url is not None
        store = JobStore(settings.database_url)
        try:
            require_first_key(store.keys, host)
        finally:
            store.database.close()


def _check_webhook_secret(settings: Settings) -> None:
    try:
        settings.webhooks.configured_secret()
    except NotReady as exc:
        raise ConfigurationError(f"webhooks.secret_env: {exc.message}", param="webhooks.secret_env") from exc
