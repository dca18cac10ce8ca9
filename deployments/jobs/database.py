"""Connections that keep their promises, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.exc import ArgumentError

from deployments.jobs.changes import ChangeSignal, change_signal
from deployments.jobs.migrations import upgrade
from deployments.jobs.schema import jobs
from wan22_bridge.errors import ConfigurationError

_WRITING = {"sqlite_begin": "BEGIN IMMEDIATE"}
"""A connection that will write takes SQLite's write lock first, so that two writers wait for each other instead of
failing half-way."""


class Database:
    """A pool of connections to a database."""

    def __init__(self, url: str, *, migrate: bool = True) -> None:
        """Opens it.

        Args:
            url: `sqlite:///PATH` or `postgresql://…`.
            migrate: brings the schema up to date; without it nothing connects yet.

        Raises:
            ConfigurationError: the URL is not of a supported database.
        """
        self.engine = open_engine(url)
        if migrate:
            upgrade(self.engine)

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    def ping(self) -> None:
        """Makes sure that the database answers and has its tables; raises what its driver raises if not."""
        with self.reading() as connection:
            connection.execute(select(jobs.c.number).limit(1))

    def watch(self) -> ChangeSignal:
        """A signal that something was written, for one reader of its own."""
        return change_signal(self.engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on the disk once the context has ended, or undone if it ended with an error."""
        with self.engine.connect().execution_options(**_WRITING) as connection, connection.begin():
            yield connection


def open_engine(url: str) -> Engine:
    """Opens a pool of connections to SQLite (`sqlite:///PATH`) or PostgreSQL (`postgresql://…`).

    Raises:
        ConfigurationError: the URL is neither.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise ConfigurationError(
            "database_url is not a URL such as sqlite:////var/lib/wan22/jobs.db.", param="database_url"
        ) from exc
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigurationError(
            f"database_url {parsed.drivername!r} is not supported: use sqlite:///PATH or postgresql://…",
            param="database_url",
        )
    engine = create_engine(parsed, connect_args={"timeout": 30})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """WAL, so that readers never wait; and a commit that has answered is on the disk."""
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    """The driver's own BEGIN is switched off: it comes too late to make a reader's snapshot or a writer's lock."""
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
