"""Fixtures of the API's unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import Settings
from tests.http_api import open_services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Services over a database of their own, without a dispatcher: jobs stay pending."""
    opened = open_services(Settings(data_dir=tmp_path / "data").with_absolute_paths())
    yield opened
    opened.store.database.close()


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    """A client of the API over these services."""
    with TestClient(make_api(services)) as running:
        yield running
