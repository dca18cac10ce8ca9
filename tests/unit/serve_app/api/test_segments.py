"""Requests for long videos from segments, and for joined continuations."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.jobs.job import Job
from serve_app.api.services import Services
from tests.videos import mp4
from wan22_bridge.types import Progress, Stage

SEGMENTS: list[dict[str, Any]] = [{"prompt": "a", "num_frames": 5}, {"prompt": "b", "seed": 3}]


def _task(client: TestClient, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = client.get(f"/api/v1/generation/{task_id}").json()
    return task


def test_segments_of_json_and_of_a_form_are_one_job(client: TestClient) -> None:
    common = {"seed": 7, "num_frames": 9, "steps": 2}
    form = {f"segments[{i}][{key}]": value for i, part in enumerate(SEGMENTS) for key, value in part.items()}
    for sent in ({"json": common | {"segments": SEGMENTS}}, {"data": common | form}):
        answer = client.post("/api/v1/generation/submit", **sent)
        assert answer.status_code == 200, answer.text
        task = _task(client, answer.json()["task_id"])
        assert (task["model_type"], task["prompt"], task["num_frames"]) == ("TI2V-5B", "a", 13)
        assert task["total_steps"] == 4
        assert task["segments"] == [
            {"prompt": "a", "num_frames": 5, "seed": 7},
            {"prompt": "b", "num_frames": 9, "seed": 3},
        ]


def test_the_openai_route_takes_segments(client: TestClient) -> None:
    answer = client.post("/v1/videos", json={"segments": SEGMENTS, "num_frames": 5, "fps": 8})
    assert answer.status_code == 200, answer.text
    assert answer.json()["seconds"] == "1"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"segments": SEGMENTS[:1]}, "invalid_value", "segments"),
        ({"segments": SEGMENTS, "prompt": "c"}, "prompt_with_segments", "prompt"),
        ({"segments": SEGMENTS, "model_type": "t2v"}, "segments_not_supported", "segments"),
        ({"segments": SEGMENTS, "model_type": "i2v"}, "image_required", "image"),
        ({"segments": [SEGMENTS[0], {"prompt": " "}]}, "prompt_empty", "segments[1].prompt"),
        ({"segments": [SEGMENTS[0], {"prompt": "b", "num_frames": 1}]}, "invalid_num_frames", "segments[1].num_frames"),
        ({"prompt": "c", "joined": True}, "video_required", "joined"),
    ],
)
def test_segments_that_cannot_be_generated_are_rejected(
    client: TestClient, fields: dict[str, Any], code: str, param: str
) -> None:
    answer = client.post("/api/v1/generation/submit", json=fields)
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


@pytest.mark.parametrize(("joined", "num_frames"), [(None, 21), ("false", 9)])
def test_an_extension_is_joined_unless_the_client_declines(
    client: TestClient, joined: str | None, num_frames: int
) -> None:
    fields = {"prompt": "c", "num_frames": "9"} | ({} if joined is None else {"joined": joined})
    answer = client.post("/v1/videos/extensions", data=fields, files={"video": ("a.mp4", mp4())})
    assert answer.status_code == 200, answer.text
    assert _task(client, answer.json()["id"])["num_frames"] == num_frames


def _claim(client: TestClient, services: Services, fields: dict[str, Any]) -> Job:
    answer = client.post("/api/v1/generation/submit", json=fields)
    job = services.store.runner.claim(answer.json()["task_id"], lease_seconds=60)
    assert job is not None
    return job


def test_jobs_and_events_show_the_running_segment(client: TestClient, services: Services) -> None:
    job = _claim(client, services, {"segments": SEGMENTS, "steps": 2, "num_frames": 9})
    token, after = job.fencing_token, services.store.events.last_sequence()
    for stage, step, percent in (
        (Stage.LOADING_MODEL, 0, 0.0),
        (Stage.GENERATING, 1, 21.78),
        (Stage.SAVING, 2, 48.51),
        (Stage.GENERATING, 2, 50.98),
        (Stage.SAVING, 4, 99.0),
    ):
        progress = Progress(stage=stage, current_step=step, total_steps=4, percent=percent)
        services.store.runner.record_progress(job.id, token, progress)
        task = _task(client, job.id)
        assert task["total_segments"] == 2
        assert task["segment"] == {0.0: None, 21.78: 1, 48.51: 1, 50.98: 2, 99.0: None}[percent]
    with client.websocket_connect("/ws") as socket:
        assert socket.receive_json()["type"] == "connection_established"
        update = socket.receive_json()
        assert (update["task_id"], update["segment"], update["total_segments"]) == (job.id, None, 2)
    services.store.runner.mark_cancelled(job.id, token)
    stream = client.get(f"/api/v1/generation/{job.id}/events", headers={"Last-Event-ID": str(after)}).text
    data = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    updates = [item for item in data if "message" in item]
    assert [item["segment"] for item in updates] == [None, 1, 1, 2, None, None]
    assert {item["total_segments"] for item in updates} == {2}
    assert updates[3]["message"] == "step 2 of 4, segment 2 of 2"
    details = [item for item in data if "preview_url" in item]
    assert [item["segment"] for item in details] == [None, 1, 1, 2, None]


def test_a_video_without_segments_shows_no_segment(client: TestClient, services: Services) -> None:
    job = _claim(client, services, {"prompt": "a"})
    progress = Progress(stage=Stage.GENERATING, current_step=1, total_steps=2, percent=40.0)
    services.store.runner.record_progress(job.id, job.fencing_token, progress)
    task = _task(client, job.id)
    assert (task["segment"], task["total_segments"]) == (None, None)
