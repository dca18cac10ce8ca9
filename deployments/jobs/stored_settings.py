"""Settings that change while the service runs, stored in the job database: a JSON value under each name."""

import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, bindparam, select

from deployments.jobs.database import Database, insert_or_update
from deployments.jobs.schema import settings

LINK_SECRET = "link_secret"
"""Name of the setting with the secret that signs links to videos."""
_VALUE = select(settings.c.value).where(settings.c.name == bindparam("name"))


def make_link_secret() -> str:
    """Returns a new value of the setting `LINK_SECRET`."""
    return secrets.token_hex(32)


class StoredSettings:
    """Reads and writes settings that all processes of the service share and that survive a restart."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a setting's value, or `default` if nobody has stored one."""
        with self._database.reading() as connection:
            return read_setting(connection, name, default)

    def change(self, name: str, default: Any, change: Callable[[Any], Any]) -> Any:
        """Changes a setting and returns its new value, which is then on the disk.

        Changes of the same setting wait for each other, so none is lost. An error of `change` leaves the setting as it
        was.

        Args:
            name: the setting.
            default: the value that is changed if nobody has stored one.
            change: returns the new value for the present one. Both are JSON values.
        """
        with self._database.writing() as connection:
            _insert_missing(connection, name, default)  # because only a row that exists can be locked
            locked = connection.execute(_VALUE.with_for_update(), {"name": name}).one()
            value = change(locked.value)
            write_setting(connection, name, value)
            return value

    def get_or_put(self, name: str, value: Any) -> Any:
        """Stores a setting unless it has a value, and returns the value that it has now, on the disk.

        Processes that call this at the same time all get the same value.
        """
        with self._database.writing() as connection:
            _insert_missing(connection, name, value)
            return read_setting(connection, name)


def read_setting(connection: Connection, name: str, default: Any = None) -> Any:
    """Reads a setting inside an open transaction."""
    row = connection.execute(_VALUE, {"name": name}).one_or_none()
    return default if row is None else row.value


def write_setting(connection: Connection, name: str, value: Any) -> None:
    """Writes a setting inside an open transaction."""
    row = insert_or_update(connection.dialect.name, settings).values(name=name, value=value)
    connection.execute(row.on_conflict_do_update(index_elements=["name"], set_={"value": row.excluded.value}))


def _insert_missing(connection: Connection, name: str, value: Any) -> None:
    row = insert_or_update(connection.dialect.name, settings).values(name=name, value=value)
    connection.execute(row.on_conflict_do_nothing(index_elements=["name"]))
