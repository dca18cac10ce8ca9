"""Requests for long videos from segments, and for joined continuations."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import Settings
from tests.videos import mp4

SEGMENTS: list[dict[str, Any]] = [{"prompt": "a", "num_frames": 5}, {"prompt": "b", "seed": 3}]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(data_dir=tmp_path / "data").with_absolute_paths()
    settings.data_dir.mkdir()
    services = Services.open(settings, dispatcher=None, downloader=None)  # type: ignore[arg-type]
    yield TestClient(make_api(services))
    services.store.database.close()


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
