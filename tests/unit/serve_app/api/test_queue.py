"""The native API's routes for the queue, over a real database and without running jobs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.jobs.job import JobState
from serve_app.api.application import make_api
from serve_app.api.live.messages import Narrator
from serve_app.api.services import Services
from serve_app.settings import Settings
from tests.http_api import open_services
from tests.loras import write_lora

_ERROR = {"type": "generation", "code": "broken", "message": "It broke.", "suggestions": []}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return open_services(Settings(data_dir=tmp_path).with_absolute_paths())


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(make_api(services), base_url="http://testserver/api/v1") as opened:
        yield opened


def _submit(client: TestClient, **fields: Any) -> str:
    body = {"prompt": "a cat", "model_type": "tiny-t2v"} | fields
    answer = client.post("generation/submit", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


def _end(services: Services, task_id: str, state: JobState) -> None:
    """Ends a job as its generator would."""
    job = services.store.runner.claim(task_id, lease_seconds=10)
    assert job is not None
    if state is JobState.COMPLETED:
        folder = services.storage.work.output_folder(task_id, job.fencing_token)
        folder.mkdir(parents=True)
        (folder / "video.mp4").write_bytes(b"video")
        output = {"folder": f"outputs/{task_id}/{job.fencing_token}", "video": "video.mp4", "file_size_bytes": 5}
        result = {"generation_time_seconds": 1.0, "parameters_used": {}}
        services.store.runner.complete(task_id, job.fencing_token, output=output, result=result)
    else:
        services.store.runner.fail(task_id, job.fencing_token, _ERROR)


def _error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_poll_returns_the_active_jobs_in_the_order_of_the_queue(client: TestClient, services: Services) -> None:
    failed, first, second, running = (_submit(client) for _ in range(4))
    _end(services, failed, JobState.FAILED)
    services.store.runner.claim(running, lease_seconds=10)
    answer = client.get("queue/poll", params={"active_only": True}).json()
    assert [(task["id"], task["queue_position"]) for task in answer["tasks"]] == [
        (running, None),
        (first, 1),
        (second, 2),
    ]
    assert (answer["pending_tasks"], answer["processing_tasks"], answer["paused"]) == (2, 1, False)
    assert answer["timestamp"].endswith(("Z", "+00:00"))
    newest = client.get("queue/poll", params={"active_only": False, "limit": 4}).json()["tasks"]
    assert [task["id"] for task in newest] == [running, second, first, failed]


def test_an_unchanged_queue_is_polled_without_a_body(client: TestClient) -> None:
    task_id = _submit(client)
    first = client.get("queue/poll")
    etag = first.headers["etag"]
    for known in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        again = client.get("queue/poll", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get("queue/poll", headers={"if-none-match": '"other"'}).status_code == 200
    for path in (f"queue/{task_id}/cancel", "queue/pause", "queue/clear"):
        assert client.post(path).status_code == 200
        changed = client.get("queue/poll", headers={"if-none-match": etag})
        assert changed.status_code == 200, path
        assert changed.headers["etag"] != etag
        etag = changed.headers["etag"]


def test_a_failed_job_is_retried_with_its_id_and_parameters(client: TestClient, services: Services) -> None:
    task_id = _submit(client, seed=4, prompt="a dog")
    _end(services, task_id, JobState.FAILED)
    assert client.get(f"generation/{task_id}").json()["error_message"] == "It broke."
    task = client.post(f"queue/{task_id}/retry").json()
    assert (task["id"], task["status"], task["stage"], task["queue_position"]) == (task_id, "pending", "queued", 1)
    assert (task["seed"], task["prompt"], task["error"], task["completed_at"]) == (4, "a dog", None, None)
    assert client.get(f"generation/{task_id}").json() == task


def test_a_job_that_is_not_over_or_has_a_video_is_not_retried(client: TestClient, services: Services) -> None:
    pending, running, completed = (_submit(client) for _ in range(3))
    services.store.runner.claim(running, lease_seconds=10)
    _end(services, completed, JobState.COMPLETED)
    for task_id in (pending, running, completed):
        answer = client.post(f"queue/{task_id}/retry")
        assert _error(answer) == (409, "job_not_retryable")
        assert answer.headers["x-should-retry"] == "false"
    assert _error(client.post("queue/video_none/retry")) == (404, "job_not_found")


def test_a_job_whose_lora_is_gone_is_not_retried(client: TestClient, services: Services) -> None:
    lora = write_lora(services.storage.work.loras / "gone.safetensors")
    task_id = _submit(client, lora_path="gone")
    _end(services, task_id, JobState.FAILED)
    lora.unlink()
    answer = client.post(f"queue/{task_id}/retry")
    assert (answer.status_code, "gone" in answer.json()["detail"]) == (400, True)
    assert client.get(f"generation/{task_id}").json()["status"] == "failed"


def test_a_job_is_deleted_unless_it_runs(client: TestClient, services: Services) -> None:
    pending, running, completed = (_submit(client) for _ in range(3))
    services.store.runner.claim(running, lease_seconds=10)
    _end(services, completed, JobState.COMPLETED)
    for task_id in (pending, completed):
        assert client.delete(f"queue/{task_id}").json() == {"message": "Deleted."}
        assert _error(client.get(f"generation/{task_id}")) == (404, "job_not_found")
    assert list(services.storage.list_outputs()) == []
    answer = client.delete(f"queue/{running}")
    assert _error(answer) == (409, "job_running")
    assert f"/queue/{running}/cancel" in answer.json()["error"]["suggestions"][0]
    assert _error(client.delete(f"queue/{pending}")) == (404, "job_not_found")


def test_clearing_empties_the_list_and_keeps_every_video(client: TestClient, services: Services) -> None:
    completed, failed, pending = (_submit(client) for _ in range(3))
    _end(services, completed, JobState.COMPLETED)
    _end(services, failed, JobState.FAILED)
    answer = client.post("queue/clear").json()
    assert (answer["cleared"], "2" in answer["message"]) == (2, True)
    queue = client.get("queue").json()
    assert [task["id"] for task in queue["tasks"]] == [pending]
    assert (queue["total_tasks"], queue["completed_tasks"], queue["failed_tasks"]) == (1, 0, 0)
    assert client.get("queue", params={"status": "completed"}).json()["tasks"] == []
    outputs = client.get("outputs").json()
    assert ([video["id"] for video in outputs["videos"]], outputs["total_count"]) == ([completed], 1)
    assert client.get(f"outputs/{completed}/video").content == b"video"
    videos = client.get("http://testserver/v1/videos").json()["data"]
    assert [video["id"] for video in videos] == [pending, failed, completed]
    assert client.get(f"generation/{failed}").json()["status"] == "failed"
    assert client.post("queue/clear").json()["cleared"] == 0


def test_the_queue_tells_whether_it_is_paused(client: TestClient) -> None:
    for path, paused in (("queue/pause", True), ("queue/pause", True), ("queue/resume", False)):
        assert client.post(path).json() == {"paused": paused}
        assert client.get("queue").json()["paused"] is paused
        assert client.get("queue/poll").json()["paused"] is paused


def test_streams_tell_pauses_and_clearings(client: TestClient, services: Services) -> None:
    task_id = _submit(client)
    services.store.writer.request_cancel(task_id)
    last = services.store.events.last_sequence()
    client.post("queue/pause")
    client.post("queue/clear")
    narrator = Narrator()
    messages = [message for event in services.store.events.after(last) for message in narrator.narrate(event)]
    assert messages == [
        ("queue_updates", ("queue_update", {"paused": True})),
        ("queue_updates", ("queue_update", {"cleared": 1})),
    ]


def test_streams_report_a_new_order_once_and_only_if_it_changes(client: TestClient, services: Services) -> None:
    first, second, third = (_submit(client) for _ in range(3))
    last = services.store.events.last_sequence()
    client.post("queue/reorder", json={"task_ids": [third, first]})
    client.post("queue/reorder", json={"task_ids": [third, second, first]})
    narrator = Narrator()
    messages = [message for event in services.store.events.after(last) for message in narrator.narrate(event)]
    assert [message for topic, message in messages if "reordered" in message[1]] == [("queue_update", {"reordered": 2})]


def test_the_queue_lists_jobs_in_any_of_several_states(client: TestClient, services: Services) -> None:
    completed, failed, _ = (_submit(client) for _ in range(3))
    _end(services, completed, JobState.COMPLETED)
    _end(services, failed, JobState.FAILED)
    answer = client.get("queue", params={"status": ["completed", "failed"]}).json()
    assert [task["id"] for task in answer["tasks"]] == [failed, completed]
    [newest] = client.get("queue", params={"status": "failed"}).json()["tasks"]
    assert newest["id"] == failed


def test_jobs_report_their_priorities(client: TestClient) -> None:
    task_id = _submit(client, priority="high")
    assert client.get(f"generation/{task_id}").json()["priority"] == "high"
    assert client.get("queue/poll").json()["tasks"][0]["priority"] == "high"


def test_every_listing_continues_after_a_deleted_job(client: TestClient, services: Services) -> None:
    ids = [_submit(client) for _ in range(4)]
    for task_id in ids:
        _end(services, task_id, JobState.COMPLETED)
    client.delete(f"outputs/{ids[2]}")
    expected = [ids[1], ids[0]]
    for path, name in (("queue", "tasks"), ("outputs", "videos"), ("http://testserver/v1/videos", "data")):
        page = client.get(path, params={"after": ids[2]}).json()[name]
        assert [job["id"] for job in page] == expected, path
        answer = client.get(path, params={"after": "video_none"})
        assert (*_error(answer), answer.json()["error"]["param"]) == (404, "job_not_found", "after")


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"active_only": "perhaps"}])
def test_an_invalid_poll_names_the_parameter(client: TestClient, params: dict[str, Any]) -> None:
    answer = client.get("queue/poll", params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, *params)
