"""The routes that verify a model's files and stop a verification."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.downloader import Downloader
from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import parse_settings
from tests.rejections import check_rejection
from tests.service import wait_until
from wan22_bridge.fetching.manifest import Manifest, ModelFile, write_manifest

_VERIFY = "/api/v1/models/verify/from-hub"
_SIZE = 100 * 10**9


@pytest.fixture
def downloader(tmp_path: Path) -> Downloader:
    """A downloader with a model of one file, without content on the disk, whose hash takes minutes."""
    models = [{"id": "from-hub", "like": "tiny-ti2v", "repository": "a/b"}]
    folder = tmp_path / "models" / "from-hub"
    folder.mkdir(parents=True)
    with (folder / "large").open("wb") as file:
        file.truncate(_SIZE)
    entry = ModelFile(path="large", size=_SIZE, sha256="0" * 64, blob_id=None)
    write_manifest(folder, Manifest(repository="a/b", commit="c", files=(entry,)))
    return Downloader(tmp_path / "models", parse_settings({"models": models}).served_models(), cast=False)


@pytest.fixture
def client(services: Services, downloader: Downloader) -> Iterator[TestClient]:
    """A client of the API over this downloader."""
    names = ("verify", "stop_verification", "ensure")
    handle: Any = SimpleNamespace(**{name: SimpleNamespace(remote=getattr(downloader, name)) for name in names})
    served = list(downloader._served.values())
    with TestClient(make_api(replace(services, downloader=handle, served=served))) as running:
        yield running


def test_a_cancelled_verification_is_a_conflict_for_all_that_wait_for_it(
    client: TestClient, downloader: Downloader
) -> None:
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(client.post, _VERIFY) for _ in range(2)]
        wait_until(lambda: any(each.progress.done_bytes for each in downloader._verifications.values()), seconds=30)
        cancelled = client.post(f"{_VERIFY}/cancel").json()
        for answer in waiting:
            check_rejection(answer.result(), 409, "verification_stopped")
    assert (cancelled["model_id"], cancelled["was_running"]) == ("from-hub", True)


def test_a_model_that_is_not_being_verified_has_nothing_to_cancel(client: TestClient) -> None:
    cancelled = client.post(f"{_VERIFY}/cancel")
    assert (cancelled.status_code, cancelled.json()["was_running"]) == (200, False)
    check_rejection(client.post("/api/v1/models/verify/nothing/cancel"), 404, "unknown_model")
