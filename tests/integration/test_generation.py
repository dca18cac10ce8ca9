"""Generation through the real Ray Serve graph, from the request to the video's file."""

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.loras import write_lora
from tests.pictures import png
from tests.service import LONG, SMALL, Service, wait_until
from wan22_bridge.media.writer import VideoInfo, read_video_info

_FORM = {name: str(value) for name, value in SMALL.items()}


def _video(service: Service, task: dict[str, Any], tmp_path: Any) -> VideoInfo:
    path = tmp_path / "video.mp4"
    path.write_bytes(httpx.get(service.url + task["output_path"]).raise_for_status().content)
    return read_video_info(path)


def test_text_to_video_from_json(service: Service, tmp_path: Any) -> None:
    task = service.finished(seed=7, num_frames=9, fps=10, metadata={"who": "me"})
    assert (task["model_type"], task["model"], task["resolution"]) == ("T2V-A14B", "tiny-t2v", "64x64")
    assert (task["seed"], task["progress"], task["stage"], task["attempt"]) == (7, 100, "completed", 1)
    assert (task["metadata"], task["error"], task["queue_position"]) == ({"who": "me"}, None, None)
    result = task["result"]
    assert result["success"] is True
    assert result["is_mock"] is False
    assert set(result["timings"]) == {"preparing_inputs", "generating", "post_processing", "saving"}
    info = _video(service, task, tmp_path)
    assert (info.width, info.height, info.num_frames, info.fps) == (64, 64, 9, 10.0)
    assert info.parameters == result["parameters_used"]
    assert info.parameters["seed"] == 7


def test_the_same_seed_generates_the_same_frames(service: Service) -> None:
    frames = []
    for seed in (3, 3, 4):
        task = service.finished(seed=seed)
        frames.append(httpx.get(f"{service.url}/api/v1/outputs/{task['id']}/last_frame").content)
    assert frames[0] == frames[1] != frames[2]


@pytest.mark.parametrize(
    ("fields", "files", "model", "size"),
    [
        ({}, ["image"], "tiny-i2v", "64x64"),
        ({"resolution": ""}, ["image"], "tiny-i2v", "112x64"),
        ({}, ["image", "end_image"], "tiny-i2v", "64x64"),
        ({"model_type": "ti2v-5b"}, ["image"], "tiny-ti2v", "64x64"),
        ({"model_type": "TI2V"}, [], "tiny-ti2v", "64x64"),
    ],
)
def test_images_are_sent_by_multipart(
    fields: dict[str, str], files: list[str], model: str, size: str, service: Service, tmp_path: Any
) -> None:
    with service.client() as client:
        answer = client.post(
            "/api/v1/generation/submit",
            files={name: (None, value) for name, value in (_FORM | fields).items()}
            | {name: ("a.png", png(), "image/png") for name in files},
        )
    assert answer.status_code == 200, answer.text
    task = service.wait_for(answer.json()["task_id"], "completed", "failed")
    assert (task["status"], task["model"], task["resolution"]) == ("completed", model, size)
    assert bool(task["image_path"]) == ("image" in files)
    info = _video(service, task, tmp_path)
    assert info.num_frames == 5
    assert "/" not in (info.parameters["image"] or "").replace("inputs/", "", 1), "a server path was revealed"


def test_the_image_determines_the_first_frames(service: Service) -> None:
    """TI2V keeps the encoded image as the first frame, so images of two colors give different frames."""
    thumbnails = []
    for color in ("red", "blue"):
        with service.client() as client:
            answer = client.post(
                "/api/v1/generation/submit",
                data=_FORM | {"model_type": "ti2v", "seed": "1"},
                files={"image": ("a.png", png(color=color), "image/png")},
            )
        task = service.wait_for(answer.json()["task_id"], "completed")
        thumbnails.append(httpx.get(f"{service.url}/api/v1/outputs/{task['id']}/thumbnail").content)
    assert thumbnails[0] != thumbnails[1]


def test_the_requested_sampler_is_used(service: Service) -> None:
    tasks = [service.finished(seed=3, steps=4, scheduler=name) for name in ("unipc", "euler", "dpm++")]
    assert [task["scheduler"] for task in tasks] == ["unipc", "euler", "dpm++"]
    with service.client() as client:
        frames = {client.get(f"/api/v1/outputs/{task['id']}/last_frame").content for task in tasks}
    assert len(frames) == 3


def test_an_uploaded_lora_changes_the_video(service: Service, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "style.safetensors")
    with service.client() as client, path.open("rb") as file:
        uploaded = client.post("/api/v1/lora/upload", files={"file": ("style.safetensors", file)})
    assert uploaded.json()["lora_name"] == "style", uploaded.text
    plain = service.finished(seed=3, steps=4)
    styled = service.finished(seed=3, steps=4, loras=[{"name": "style", "strength": 1.5, "strength_2": 0.5}])
    with service.client() as client:
        frames = [client.get(f"/api/v1/outputs/{task['id']}/last_frame").content for task in (plain, styled)]
        assert client.delete("/api/v1/lora/style").status_code == 200
    assert frames[0] != frames[1]
    assert styled["loras"] == [{"name": "style", "strength": 1.5, "strength_2": 0.5}]


def test_a_running_job_has_a_preview(service: Service) -> None:
    task_id = service.submit(**LONG)
    with service.client() as client:

        def preview() -> httpx.Response:
            return client.get(f"/api/v1/generation/{task_id}/preview")

        wait_until(lambda: preview().status_code == 200)
        shown = preview()
        assert shown.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(shown.content)) as image:
            assert image.size == (128 // 8, 128 // 8)
        client.post(f"/api/v1/queue/{task_id}/cancel")
        service.wait_for(task_id, "cancelled")
        assert preview().json()["error"]["code"] == "preview_not_found"
        assert client.get("/api/v1/generation/nothing/preview").status_code == 404


@pytest.mark.parametrize("kind", ["first_block", "taylorseer", "magcache", "pab"])
def test_a_requested_step_cache_is_used(kind: str, service: Service) -> None:
    assert service.finished(seed=3, steps=8, step_cache=kind)["step_cache"] == kind


def test_an_upload_is_used_by_its_id(service: Service) -> None:
    with service.client() as client:
        upload = client.post("/api/v1/uploads", files={"file": ("a.png", png(), "image/png")}).json()
    assert (upload["width"], upload["height"], upload["size_bytes"]) == (96, 64, len(png()))
    task = service.finished(image_path=upload["id"], modelType="i2v")
    assert task["image_path"] == upload["id"]


def test_a_urlencoded_form_is_accepted(service: Service) -> None:
    with service.client() as client:
        answer = client.post("/api/v1/generation/submit", data=_FORM | {"metadata[k]": "v"})
    task = service.wait_for(answer.json()["task_id"], "completed")
    assert task["metadata"] == {"k": "v"}


def test_an_idempotency_key_creates_one_job(service: Service) -> None:
    with service.client() as client:
        answers = [
            client.post("/api/v1/generation/submit", json=SMALL | extra, headers={"Idempotency-Key": "one"})
            for extra in ({}, {}, {"steps": 3})
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 409]
    assert answers[0].json()["task_id"] == answers[1].json()["task_id"]
    assert answers[2].headers["x-should-retry"] == "false"
    assert answers[2].json()["error"]["code"] == "idempotency_key_reused"


def test_an_empty_idempotency_key_is_ignored(service: Service) -> None:
    with service.client() as client:
        answers = [
            client.post("/api/v1/generation/submit", json=SMALL, headers={"Idempotency-Key": ""}) for _ in range(2)
        ]
    assert answers[0].json()["task_id"] != answers[1].json()["task_id"]


def test_an_image_is_sent_as_a_data_url(service: Service) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    with service.client() as client:
        fields = {"prompt": "x", "size": "64x64", "num_frames": 5, "steps": 2, "input_reference": {"image_url": url}}
        video = client.post("/v1/videos", json=fields).raise_for_status().json()
    assert service.wait_for(video["id"], "completed")["model"] == "tiny-i2v"


def test_a_videos_files_are_served_whole_and_by_range(service: Service) -> None:
    task = service.finished()
    base = f"/api/v1/outputs/{task['id']}"
    with service.client() as client:
        whole = client.get(f"{base}/video")
        assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
        part = client.get(f"{base}/video", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
        assert part.headers["etag"] == whole.headers["etag"]
        for nonsense in ("bytes=abc", "bytes=5-2", "items=0-1", "bytes="):
            assert client.get(f"{base}/video", headers={"Range": nonsense}).status_code == 200
        head = client.head(f"{base}/video")
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content)))
        unchanged = client.get(f"{base}/video", headers={"If-None-Match": whole.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        beyond = client.get(f"{base}/video", headers={"Range": f"bytes={len(whole.content)}-"})
        assert beyond.status_code == 416
        assert "attachment" in client.get(f"{base}/download").headers["content-disposition"]
        with Image.open(io.BytesIO(client.get(f"{base}/thumbnail").content)) as thumbnail:
            assert thumbnail.format == "WEBP"
        with Image.open(io.BytesIO(client.get(f"{base}/last_frame").content)) as frame:
            assert (frame.format, frame.size) == ("PNG", (64, 64))
        with Image.open(io.BytesIO(client.get(f"{base}/spritesheet").content)) as sheet:
            assert (sheet.format, sheet.size) == ("WEBP", (3 * 64, 2 * 64))
        listed = client.get("/api/v1/outputs").json()
        assert task["id"] in [video["id"] for video in listed["videos"]]
        assert listed["total_count"] == len(listed["videos"])
        assert listed["total_size_mb"] == pytest.approx(
            sum(video["file_size_mb"] for video in listed["videos"]), abs=0.1
        )
        first = client.get("/api/v1/outputs", params={"limit": 1}).json()
        second = client.get("/api/v1/outputs", params={"limit": 1, "after": first["videos"][0]["id"]}).json()
        assert [*first["videos"], *second["videos"]] == listed["videos"][:2]
        video = client.get(base).json()
        assert (video["num_frames"], video["file_size_mb"]) == (5, round(len(whole.content) / 1e6, 3))


def test_deleting_a_video_deletes_its_files(service: Service) -> None:
    task = service.finished()
    assert (service.data_dir / "outputs" / task["id"]).exists()
    with service.client() as client:
        assert client.delete(f"/api/v1/outputs/{task['id']}").status_code == 200
        assert client.get(f"/api/v1/outputs/{task['id']}/video").status_code == 404
    assert not (service.data_dir / "outputs" / task["id"]).exists()
