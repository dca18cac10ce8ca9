"""Fixtures of the command line's tests."""

import threading
from collections.abc import Iterator

import pytest
import uvicorn

from serve_app.api.application import make_api
from serve_app.api.services import Services
from tests.service import free_port, wait_until


@pytest.fixture
def url(services: Services) -> Iterator[str]:
    """Serves the API over the test's `services`, and returns its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(make_api(services), port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, every=0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
