"""A cheap check for writes to the database, which readers can poll many times a second."""

import sqlite3
from typing import Protocol

from sqlalchemy import Engine


class ChangeSignal(Protocol):
    """Reports whether the database may have changed since the last call. The first call always reports a change.

    Event loops call it, so it must return within microseconds.
    """

    interval_seconds: float
    """Sensible time between two calls."""

    def changed(self) -> bool:
        """Returns whether there may be something new to read."""


def change_signal(engine: Engine) -> ChangeSignal:
    """Returns a change signal for one reader of a database."""
    if engine.dialect.name == "sqlite":
        return _SqliteSignal(engine.url.database or "")
    return _AlwaysSignal()


class _SqliteSignal:
    """Compares SQLite's `data_version`, which counts the commits of other connections and costs no disk access.

    On an error it reports a change, because the reader's own query then raises the error where it can be handled.
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
    """Reports a change on every call, because a database server has no such counter: readers must query it."""

    interval_seconds = 0.1

    def changed(self) -> bool:
        return True
