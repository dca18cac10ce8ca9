"""A disk that is full or nearly full: new data is rejected with 507, and nothing that was accepted is lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.jobs.job import JobState
from serve_app.api.application import make_api
from serve_app.api.health import _check_disk
from serve_app.api.services import Services
from serve_app.settings import Settings
from tests.full_disk import fill, small_disk
from tests.http_api import open_services
from tests.pictures import png
from tests.rejections import check_rejection

_SUBMIT = "/api/v1/generation/submit"
_PROMPT = {"prompt": "a cat"}


def _make_short(services: Services) -> None:
    """Lets the disk have less free space than the services leave for running jobs."""
    services.disk._min_free_bytes = 10**18


def test_a_nearly_full_disk_rejects_everything_new_with_507(client: TestClient, services: Services) -> None:
    cancelled = client.post(_SUBMIT, json=_PROMPT).json()["task_id"]
    client.post(f"/api/v1/queue/{cancelled}/cancel")
    kept = client.post(_SUBMIT, json=_PROMPT, headers={"idempotency-key": "k"}).json()
    _make_short(services)
    files = {"file": ("a.png", png())}
    requests: list[dict[str, Any]] = [
        {"url": _SUBMIT, "json": _PROMPT},
        {"url": _SUBMIT, "data": _PROMPT | {"model_type": "tiny-i2v"}, "files": {"image": ("a.png", png())}},
        {"url": "/v1/videos", "json": _PROMPT},
        {"url": "/api/v1/uploads", "files": files},
        {"url": f"/api/v1/queue/{cancelled}/retry"},
        {"url": "/api/v1/lora/upload", "files": {"file": ("a.safetensors", b"not read")}},
    ]
    for request in requests:
        error = check_rejection(client.post(**request), 507, "disk_full")
        assert error["type"] == "storage"
        assert "GB are free, and 1000000000.00 GB are needed" in error["message"]
        assert str(services.settings.data_dir) not in str(error)
    assert list(services.storage.list_inputs()) == []
    assert sum(services.store.reader.count().values()) == 2

    assert client.post(_SUBMIT, json=_PROMPT, headers={"idempotency-key": "k"}).json()["task_id"] == kept["task_id"]
    assert client.post("/api/v1/generation/estimate", json=_PROMPT).status_code == 200
    assert client.delete(f"/api/v1/queue/{cancelled}").status_code == 200


def test_a_running_job_finishes_on_a_nearly_full_disk(client: TestClient, services: Services) -> None:
    job_id = client.post(_SUBMIT, json=_PROMPT).json()["task_id"]
    _make_short(services)
    assert services.store.runner.claim(job_id, lease_seconds=60) is not None
    services.store.runner.complete(job_id, 1, output={"folder": "x"}, result={})
    assert client.get(f"/api/v1/generation/{job_id}").json()["status"] == "completed"


def test_the_health_report_says_that_new_jobs_are_rejected(services: Services) -> None:
    before = _check_disk(services)
    assert before is None or before.code == "disk_nearly_full"
    _make_short(services)
    problem = _check_disk(services)
    assert problem is not None
    assert (problem.code, problem.level) == ("disk_full", "error")
    assert "New jobs are rejected" in problem.message


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 4096) as folder:
        yield folder


def test_a_database_without_space_loses_no_job_and_works_again_later(disk: Path) -> None:
    services = open_services(Settings(data_dir=disk, retention={"min_free_gb": 0}).with_absolute_paths())
    with TestClient(make_api(services)) as client:
        accepted = [client.post(_SUBMIT, json=_PROMPT).json()["task_id"] for _ in range(3)]
        filler = fill(disk)
        while (answer := client.post(_SUBMIT, json=_PROMPT)).status_code == 200:
            accepted.append(answer.json()["task_id"])
        check_rejection(answer, 507, "disk_full")
        assert {job.id for job in services.store.reader.page(limit=1000)} == set(accepted)
        assert client.get("/api/v1/queue").status_code == 200
        filler.unlink()
        assert client.post(_SUBMIT, json=_PROMPT).status_code == 200
        assert services.store.reader.count()[JobState.PENDING] == len(accepted) + 1
    services.store.database.close()
