"""Batches through the real Ray Serve graph: several videos from one request."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.rejections import check_rejection
from tests.service import LONG, SMALL, Service, wait_until
from wan22_bridge.media.writer import read_video_info

_SUBMIT = "/api/v1/generation/submit"


def _wait(client: httpx.Client, batch_id: str) -> dict[str, Any]:
    """Waits until all jobs of a batch have ended, and returns the batch."""

    def look() -> dict[str, Any] | None:
        batch: dict[str, Any] = client.get(f"/api/v1/batches/{batch_id}").raise_for_status().json()
        return batch if batch["pending"] + batch["processing"] == 0 else None

    batch: dict[str, Any] = wait_until(look, seconds=120, every=0.2)
    return batch


def test_a_batch_makes_a_video_of_each_seed(service: Service) -> None:
    with service.client() as client:
        headers = {"idempotency-key": "batch of three"}
        body = SMALL | {"num_outputs": 3, "seed": 3}
        answer = client.post(_SUBMIT, json=body, headers=headers).raise_for_status().json()
        batch = _wait(client, answer["batch_id"])
        assert (batch["status"], batch["completed"], batch["progress"]) == ("completed", 3, 100)
        assert [task["id"] for task in batch["tasks"]] == answer["task_ids"]
        assert [task["seed"] for task in batch["tasks"]] == [3, 4, 5]
        again = client.post(_SUBMIT, json=body, headers=headers).raise_for_status().json()
        assert (again["batch_id"], again["task_ids"]) == (answer["batch_id"], answer["task_ids"])
        frames = [client.get(f"/api/v1/outputs/{task_id}/last_frame").content for task_id in answer["task_ids"]]
        assert len(set(frames)) == 3
        alone = service.finished(seed=4)
        assert client.get(f"/api/v1/outputs/{alone['id']}/last_frame").content == frames[1]
        check_rejection(client.post(f"/api/v1/batches/{answer['batch_id']}/cancel"), 409, "batch_ended")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_openai_package_makes_a_batch(service: Service, tmp_path: Path) -> None:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none") as client:
        first: Any = client.videos.create(prompt="a red circle", extra_body=SMALL | {"n": 2})
        assert first.id == first.video_ids[0]
        videos: list[Any] = [client.videos.poll(video_id) for video_id in first.video_ids]
        assert [(video.status, video.batch_id) for video in videos] == [("completed", first.batch_id)] * 2
        client.videos.download_content(videos[1].id).write_to_file(tmp_path / "a.mp4")
        assert read_video_info(tmp_path / "a.mp4").num_frames == 5
        with pytest.raises(openai.BadRequestError, match="n: ") as caught:
            client.videos.create(prompt="a red circle", extra_body={"n": 9})
        assert caught.value.param == "n"


def test_a_cancelled_batch_stops_its_running_job_too(service: Service) -> None:
    with service.client() as client:
        answer = client.post(_SUBMIT, json=SMALL | LONG | {"num_outputs": 3}).raise_for_status().json()
        service.wait_for(answer["task_ids"][0], "processing")
        batch = client.post(f"/api/v1/batches/{answer['batch_id']}/cancel").raise_for_status().json()
        assert batch["cancelled"] + batch["processing"] == 3
        batch = _wait(client, answer["batch_id"])
        assert (batch["status"], batch["cancelled"]) == ("cancelled", 3)
