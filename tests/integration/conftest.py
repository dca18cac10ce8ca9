"""Fixtures of the integration tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import Service


@pytest.fixture
def nothing_left(service: Service) -> Iterator[None]:
    """Fails if the test leaves a job or an input file behind."""

    def contents() -> tuple[int, list[Path]]:
        with service.client() as client:
            total = client.get("/api/v1/queue", params={"limit": 1}).json()["total_tasks"]
        return total, sorted((service.data_dir / "inputs").glob("*"))

    before = contents()
    yield
    assert contents() == before
