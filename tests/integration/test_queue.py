"""The queue: its order, and cancelling and deleting jobs."""

import time
from collections.abc import Iterator

import pytest

from tests.service import LONG, Service, wait_until


@pytest.fixture
def running(service: Service) -> Iterator[str]:
    """A job that is being denoised."""
    task_id = service.submit(**LONG | {"resolution": "256x256"})
    wait_until(lambda: service.task(task_id)["current_step"] >= 1)
    yield task_id
    with service.client() as client:
        client.post(f"/api/v1/queue/{task_id}/cancel")
        wait_until(lambda: client.get("/api/v1/queue").json()["current_task"] is None)


def test_the_queue_reports_pending_and_running_jobs(service: Service, running: str) -> None:
    low, high = service.submit(priority="low"), service.submit(priority="high")
    with service.client() as client:
        queue = client.get("/api/v1/queue", params={"limit": 3}).json()
        assert queue["current_task"]["id"] == running
        assert (queue["pending_tasks"], queue["processing_tasks"]) == (2, 1)
        assert queue["queue"] == queue["tasks"]
        positions = {task["id"]: task["queue_position"] for task in queue["tasks"]}
        assert (positions[high], positions[low], positions[running]) == (1, 2, None)
        pending = client.get("/api/v1/queue", params={"status": "pending"}).json()["tasks"]
        assert [task["id"] for task in pending] == [high, low]
        after = client.get("/api/v1/queue", params={"after": low}).json()["tasks"]
        assert running == after[0]["id"]
        for task_id in (low, high):
            assert client.post(f"/api/v1/queue/{task_id}/cancel").json() == {"message": "Cancelled."}
    assert service.task(low)["status"] == "cancelled"


def test_a_job_whose_model_is_loaded_overtakes_an_older_job(service: Service, running: str) -> None:
    # Other tests may have left any model loaded, but the running job uses no LoRA.
    older, loaded = service.submit(loras=[{"name": "tiny-neon"}]), service.submit()
    with service.client() as client:
        client.post(f"/api/v1/queue/{running}/cancel")
    tasks = [service.wait_for(task_id, "completed") for task_id in (loaded, older)]
    assert tasks[0]["started_at"] < tasks[1]["started_at"]


def test_pending_jobs_are_reordered(service: Service, running: str) -> None:
    first, second = service.submit(), service.submit()
    with service.client() as client:
        order = {"task_ids": [second, first, running, "video_none"]}
        assert client.post("/api/v1/queue/reorder", json=order).json() == {"message": "Reordered."}
        assert [service.task(task_id)["queue_position"] for task_id in (first, second)] == [2, 1]
        rejected = client.post("/api/v1/queue/reorder", json={"task_ids": []})
        assert (rejected.status_code, rejected.json()["error"]["param"]) == (400, "task_ids")
        client.post(f"/api/v1/queue/{running}/cancel")
    tasks = [service.wait_for(task_id, "completed") for task_id in (second, first)]
    assert tasks[0]["started_at"] < tasks[1]["started_at"]


def test_a_cancelled_running_job_stops_within_a_step_and_leaves_no_file(service: Service, running: str) -> None:
    with service.client() as client:
        assert client.post(f"/api/v1/queue/{running}/cancel").status_code == 200
        assert service.task(running)["cancel_requested"] is True
    task = service.wait_for(running, "cancelled", seconds=20)
    assert (task["stage"], task["output_path"], task["error"]) == ("cancelled", None, None)
    wait_until(lambda: not (service.data_dir / "outputs" / running).exists())
    with service.client() as client:
        again = client.post(f"/api/v1/queue/{running}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "job_ended")


def test_a_deleted_running_job_stops_and_leaves_no_file(service: Service, running: str) -> None:
    with service.client() as client:
        assert client.delete(f"/v1/videos/{running}").json()["deleted"] is True
        assert client.get(f"/v1/videos/{running}").status_code == 404
    service.finished()
    wait_until(lambda: not (service.data_dir / "outputs" / running).exists())


def test_the_video_of_a_running_job_is_a_conflict(service: Service, running: str) -> None:
    with service.client() as client:
        for path in (f"/api/v1/outputs/{running}/video", f"/v1/videos/{running}/content"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_not_ready")


def test_a_paused_queue_begins_no_job_and_a_retried_job_is_completed(service: Service, running: str) -> None:
    with service.client() as client:
        assert client.post("/api/v1/queue/pause").json() == {"paused": True}
        try:
            waiting = service.submit(priority="high")
            client.post(f"/api/v1/queue/{running}/cancel")
            service.wait_for(running, "cancelled")
            retried = service.submit()
            client.post(f"/api/v1/queue/{retried}/cancel")
            assert client.post(f"/api/v1/queue/{retried}/retry").json()["status"] == "pending"
            poll = client.get("/api/v1/queue/poll")
            assert [task["id"] for task in poll.json()["tasks"]] == [waiting, retried]
            assert poll.json()["paused"] is True
            time.sleep(2)  # the dispatcher looks for jobs after each change, and once a second
            unchanged = client.get("/api/v1/queue/poll", headers={"if-none-match": poll.headers["etag"]})
            assert unchanged.status_code == 304, "no job has begun"
        finally:
            client.post("/api/v1/queue/resume")
    tasks = [service.wait_for(task_id, "completed", "failed") for task_id in (waiting, retried)]
    assert [task["status"] for task in tasks] == ["completed", "completed"]
