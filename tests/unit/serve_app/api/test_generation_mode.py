"""The generation mode, which decides at a job's submission whether the job is a mock job."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.services import Services
from tests.service import SMALL

_URL = "/api/v1/system/generation-mode"


def _submit(client: TestClient) -> dict[str, Any]:
    task_id = client.post("/api/v1/generation/submit", json=SMALL).json()["task_id"]
    found: dict[str, Any] = client.get(f"/api/v1/generation/{task_id}").json()
    return found


def test_the_mode_is_real_without_a_fallback_until_an_operator_changes_it(client: TestClient) -> None:
    assert client.get(_URL).json() == {"mode": "real", "mock_fallback": False}
    assert client.put(_URL, json={"mode": "mock"}).json() == {"mode": "mock", "mock_fallback": False}
    assert client.put(_URL, json={"mock_fallback": True}).json() == {"mode": "mock", "mock_fallback": True}
    assert client.get(_URL).json() == {"mode": "mock", "mock_fallback": True}


@pytest.mark.parametrize("body", [{"mode": "fake"}, {"mode": 1}, {"fallback": True}, {"mock_fallback": "perhaps"}, []])
def test_a_wrong_change_is_rejected_and_changes_nothing(client: TestClient, body: Any) -> None:
    assert client.put(_URL, json=body).status_code == 400
    assert client.get(_URL).json() == {"mode": "real", "mock_fallback": False}


def test_a_job_keeps_the_mode_of_its_submission(client: TestClient) -> None:
    real = _submit(client)
    client.put(_URL, json={"mode": "mock"})
    mock = _submit(client)
    client.put(_URL, json={"mode": "real"})
    assert [client.get(f"/api/v1/generation/{task['id']}").json()["is_mock"] for task in (real, mock)] == [False, True]
    assert [client.get(f"/v1/videos/{task['id']}").json()["is_mock"] for task in (real, mock)] == [False, True]
    assert _submit(client)["is_mock"] is False


def test_a_mock_job_is_announced_with_its_time(client: TestClient) -> None:
    client.put(_URL, json={"mode": "mock"})
    answer = client.post("/api/v1/generation/submit", json=SMALL).json()
    assert "mock" in answer["message"]
    assert answer["estimated_time_minutes"] < 0.1


def test_a_retry_of_a_request_returns_the_first_job_in_another_mode(client: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/api/v1/generation/submit", json=SMALL, headers=headers).json()
    client.put(_URL, json={"mode": "mock"})
    assert client.post("/api/v1/generation/submit", json=SMALL, headers=headers).json()["task_id"] == first["task_id"]


def test_a_remix_of_a_mock_video_is_real_in_real_mode(client: TestClient, services: Services) -> None:
    client.put(_URL, json={"mode": "mock"})
    task = _submit(client)
    job = services.store.runner.claim(task["id"], lease_seconds=10)
    assert job is not None
    services.store.runner.complete(job.id, job.fencing_token, output={"folder": "x"}, result={})
    client.put(_URL, json={"mode": "real"})
    assert client.post(f"/v1/videos/{job.id}/remix", json={"prompt": "a star"}).json()["is_mock"] is False
