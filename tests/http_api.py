"""The HTTP API over real services, without Ray Serve."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from fastapi.testclient import TestClient

from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import parse_settings


@contextmanager
def open_api(folder: Path, **args: Any) -> Iterator[TestClient]:
    """Opens the API on a data folder below `folder`, with settings, and yields a client of it."""
    settings = parse_settings({"data_dir": folder / "data"} | args).with_absolute_paths()
    settings.data_dir.mkdir(exist_ok=True)
    nothing = cast(Any, None)
    services = Services.open(settings, dispatcher=nothing, downloader=nothing)
    with TestClient(make_api(services), raise_server_exceptions=False) as client:
        yield client
