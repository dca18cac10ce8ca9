"""Database connections with durable, serialized writes, on SQLite and on PostgreSQL."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    Table,
    cast,
    create_engine,
    event,
    extract,
    func,
    literal,
    make_url,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from deployments.jobs.changes import ChangeSignal, change_signal
from deployments.jobs.migrations import upgrade
from deployments.jobs.schema import jobs
from wan22_bridge.errors import ConfigurationError

_ENGINE: Any = {"hide_parameters": True}
"""Options of the engine. The parameters of a failed statement, such as a prompt, do not appear in the log."""
_WRITING = {"sqlite_begin": "BEGIN IMMEDIATE"}
"""Execution options of a writing connection. It takes SQLite's write lock when its transaction begins, because a
transaction that takes the lock later fails if another writer was faster."""


_POSTGRES_DISK_FULL = "53100"
"""PostgreSQL's SQLSTATE of a full disk."""
_UNIX_EPOCH_DAY = 2440587.5
"""Julian day of the beginning of Unix time."""


class Database:
    """A pool of connections to a database."""

    def __init__(self, url: str, *, migrate: bool = True, clock: Callable[[], float] | None = None) -> None:
        """Opens the database.

        Args:
            url: `sqlite:///PATH` or `postgresql://…`.
            migrate: whether to bring the schema up to date now. Without that, the first query connects.
            clock: takes the place of the database's own clock, in seconds since the epoch.

        Raises:
            ConfigurationError: the URL does not name a supported database.
        """
        self.engine = open_engine(url)
        self._clock = clock
        if migrate:
            upgrade(self.engine)

    @property
    def is_file(self) -> bool:
        """Whether the database is a file of this machine, which answers without a network."""
        return self.engine.dialect.name == "sqlite"

    def now(self) -> ColumnElement[float]:
        """Returns an SQL expression with the database's time in seconds since the epoch, when the statement runs.

        Leases and heartbeats are written and compared by this clock only, because the clocks of the processes differ.
        """
        if self._clock is not None:
            return literal(self._clock(), Float(53))
        if self.engine.dialect.name == "postgresql":
            return cast(extract("epoch", func.clock_timestamp()), Float(53))
        return type_coerce((func.julianday("now") - _UNIX_EPOCH_DAY) * 86400.0, Float(53))

    def read_now(self, connection: Connection) -> float:
        """Returns the database's time in seconds since the epoch."""
        return float(connection.execute(select(self.now())).scalar_one())

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    def ping(self) -> None:
        """Checks that the database answers and has its tables; raises the driver's error otherwise."""
        with self.reading() as connection:
            connection.execute(select(jobs.c.number).limit(1))

    def watch(self) -> ChangeSignal:
        """Returns a new change signal, for one reader."""
        return change_signal(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Opens a transaction that only reads."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def reading_one_state(self) -> Iterator[Connection]:
        """Opens a transaction whose queries all see the same state of the database.

        SQLite does so in any transaction, PostgreSQL at this isolation level.
        """
        options = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
        with self.engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Opens a transaction that writes. It is on the disk when the context ends, or rolled back on an error."""
        with self.engine.connect().execution_options(**_WRITING) as connection, connection.begin():
            yield connection


def is_disk_full(error: DBAPIError) -> bool:
    """Returns whether a query failed because the database's disk is full."""
    if isinstance(error.orig, sqlite3.Error):
        return error.orig.sqlite_errorcode == sqlite3.SQLITE_FULL
    return getattr(error.orig, "sqlstate", None) == _POSTGRES_DISK_FULL


def insert_or_update(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Returns an INSERT that has `on_conflict_do_update`, which both databases support in the same form.

    Args:
        dialect: SQLAlchemy's name of the database, `sqlite` or `postgresql`.
        table: the table.
    """
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def open_engine(url: str) -> Engine:
    """Opens a pool of connections to SQLite (`sqlite:///PATH`) or PostgreSQL (`postgresql://…`).

    Raises:
        ConfigurationError: the URL is malformed or names another database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigurationError(
            "database_url is not a URL. Use one like sqlite:////var/lib/wan22/jobs.db.", param="database_url"
        ) from exc
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, **_ENGINE)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigurationError(
            f"database_url: {parsed.drivername!r} is not supported. Use sqlite:///PATH or postgresql://…",
            param="database_url",
        )
    engine = create_engine(parsed, connect_args={"timeout": 30}, **_ENGINE)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Turns on WAL, so that readers never wait, and full synchronization, so that a commit is on the disk."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    """Begins a transaction. The driver's own BEGIN is off, because it comes too late for snapshots and locks."""
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
