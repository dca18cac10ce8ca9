"""The HTTP API over real services, without Ray Serve."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import Settings, parse_settings
from tests.databases import FILE_NAME, write_database
from tests.service import free_port, wait_until


def make_bare_api(*, needs_keys: bool = False) -> FastAPI:
    """Makes the API without services, for its routes and its document only."""
    store = SimpleNamespace(keys=None)
    return make_api(
        cast(Any, SimpleNamespace(store=store, settings=parse_settings({}), needs_keys=needs_keys, links=None))
    )


def open_services(settings: Settings) -> Services:
    """Opens services without a dispatcher and without a downloader: jobs stay pending.

    The services start with an empty database in the data folder, if that has none yet and the settings name no other.
    """
    if not (settings.data_dir / FILE_NAME).exists():
        write_database(settings.data_dir)
    nothing = cast(Any, None)
    needs_keys = settings.needs_keys("127.0.0.1")
    return Services.open(settings, dispatcher=nothing, downloader=nothing, needs_keys=needs_keys)


@contextmanager
def open_api(folder: Path, **args: Any) -> Iterator[TestClient]:
    """Opens the API on a data folder below `folder`, with settings, and yields a client of it."""
    with TestClient(_make(folder, args), raise_server_exceptions=False) as client:
        yield client


@contextmanager
def serving_api(folder: Path, **args: Any) -> Iterator[str]:
    """Serves the API on a port of its own, and yields its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(_make(folder, args), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), seconds=30, every=0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _make(folder: Path, args: dict[str, Any]) -> FastAPI:
    settings = parse_settings({"data_dir": folder / "data"} | args).with_absolute_paths()
    return make_api(open_services(settings))
