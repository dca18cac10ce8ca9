"""Asking whether anyone has written to the database: cheap enough to ask many times a second."""

import sqlite3
from typing import Protocol

from sqlalchemy import Engine


class ChangeSignal(Protocol):
    """Tells whether the database may have changed since the last call; the first call says yes.

    It is called in an event loop and answers within microseconds. `interval_seconds` is how often it is worth asking.
    """

    interval_seconds: float

    def changed(self) -> bool:
        """Whether there may be something new to read."""


def change_signal(engine: Engine) -> ChangeSignal:
    """The signal for a database, for one reader."""
    if engine.dialect.name == "sqlite":
        return _SqliteSignal(engine.url.database or "")
    return _AlwaysSignal()


class _SqliteSignal:
    """SQLite counts the commits of other connections, and tells without reading the file.

    Where it can't tell, the reader is sent to read, and finds out why.
    """

    interval_seconds = 0.02

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._version: int | None = None

    def changed(self) -> bool:
        try:
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return True
        changed = version != self._version
        self._version = version
        return changed


class _AlwaysSignal:
    """A server has to be asked the real question each time."""

    interval_seconds = 0.1

    def changed(self) -> bool:
        return True
