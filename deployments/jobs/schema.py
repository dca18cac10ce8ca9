"""The tables, and connections that keep their promises."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import ArgumentError

from wan22_bridge.errors import ConfigurationError

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself only in an INTEGER primary key."""

jobs = Table(
    "jobs",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("model", String(128), nullable=False),
    Column("params", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("idempotency_key", String(255), unique=True),
    Column("request_hash", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fencing_token", Integer, nullable=False),
    Column("lease_expires_at", Float(53)),
    Column("cancel_requested", Boolean, nullable=False),
    Column("stage", String(32), nullable=False),
    Column("progress", Float(53), nullable=False),
    Column("current_step", Integer, nullable=False),
    Column("total_steps", Integer, nullable=False),
    Column("eta_seconds", Float(53)),
    Column("created_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("completed_at", Float(53)),
    Column("output", JSON(none_as_null=True)),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Index("jobs_by_state", "state", "number"),
)

events = Table(
    "events",
    metadata,
    Column("sequence", _Number, primary_key=True, autoincrement=True),
    Column("job_id", String(64), nullable=False),
    Column("type", String(32), nullable=False),
    Column("data", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Index("events_by_job", "job_id", "sequence"),
    sqlite_autoincrement=True,
)

WRITING = {"sqlite_begin": "BEGIN IMMEDIATE"}
"""Execution options of a connection that will write: it takes SQLite's write lock first, so that two writers wait
for each other instead of failing half-way."""


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
