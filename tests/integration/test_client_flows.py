"""The flows of other servers' benchmarks, from the submission to the downloaded video."""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.pictures import png
from tests.service import LONG, SMALL, Service, wait_until
from wan22_bridge.media.writer import read_video_info


def _poll(client: httpx.Client, video_id: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        video: dict[str, Any] = client.get(f"/v1/videos/{video_id}").json()
        return video if video["status"] in ("completed", "failed") else None

    found: dict[str, Any] = wait_until(ended)
    return found


def test_vllm_omnis_benchmark_completes_its_flow(service: Service, tmp_path: Path) -> None:
    fields = {"prompt": "a red circle", "width": 96, "height": 64, "num_frames": 5, "num_inference_steps": 2}
    fields |= {"seed": 1, "fps": 23.976, "negative_prompt": "", "guidance_scale": 1, "guidance_scale_2": 5}
    parts = [(name, (None, str(value))) for name, value in fields.items()]
    with service.client() as client:
        answer = client.post("/v1/videos", files=parts)
        assert answer.status_code == 200, answer.text
        video = _poll(client, answer.json()["id"])
        assert video["status"] == "completed", video["error"]
        assert video["stage_durations"]["generating"] > 0
        assert video["peak_memory_mb"] >= 0
        assert video["inference_time_s"] > 0
        (tmp_path / "a.mp4").write_bytes(client.get(f"/v1/videos/{video['id']}/content").content)
        assert client.delete(f"/v1/videos/{video['id']}").status_code == 200
    info = read_video_info(tmp_path / "a.mp4")
    assert (info.width, info.height, info.num_frames, info.fps) == (96, 64, 5, 23.976)
    assert info.parameters["fps"] == 23.976


def test_sglangs_benchmark_completes_its_flow(service: Service) -> None:
    with service.client() as client:
        model = client.get("/v1/model_info").json()["model_path"]
        payload = {"model": model, "prompt": "a red circle", "size": "96x64", "num_frames": 5, "fps": 8}
        answers = [
            client.post("/v1/videos", json=payload | {"num_inference_steps": 2}),
            client.post(
                "/v1/videos",
                data={"model": "i2v", "prompt": "it moves", "extra_body": json.dumps({"num_inference_steps": 2})}
                | {"num_frames": "5", "fps": "8", "size": "96x64"},
                files={"input_reference": ("a.png", png(), "application/octet-stream")},
            ),
        ]
        for answer in answers:
            assert answer.status_code == 200, answer.text
            video = _poll(client, answer.json()["id"])
            assert video["status"] == "completed", video["error"]
            assert isinstance(video["peak_memory_mb"], float)


def test_the_synchronous_route_responds_with_the_video(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        answer = client.post("/v1/videos/sync", json={"prompt": "a " * 900, "size": "64x64", "steps": 2})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4"), answer.text
    (tmp_path / "a.mp4").write_bytes(answer.content)
    assert read_video_info(tmp_path / "a.mp4").width == 64
    task = service.task(answer.headers["x-video-id"])
    assert task["prompt_tokens_dropped"] == task["result"]["prompt_tokens_dropped"] == 389


def test_a_disconnect_from_the_synchronous_route_loses_no_job(service: Service) -> None:
    with service.client() as client:
        try:
            client.post("/v1/videos/sync", json=_sent(metadata={"who": "gone"}), timeout=httpx.Timeout(10, read=1))
        except httpx.ReadTimeout:
            pass
        else:
            raise AssertionError("the video was complete before the disconnect")
        tasks = client.get("/api/v1/queue").json()["tasks"]
        [task_id] = [task["id"] for task in tasks if task["metadata"] == {"who": "gone"}]
        assert service.wait_for(task_id, "completed", "failed")["status"] == "completed"


def _sent(**changes: Any) -> dict[str, Any]:
    """Returns a job of a few seconds."""
    return SMALL | LONG | {"steps": 40} | changes
