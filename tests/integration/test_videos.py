"""Video-to-video and video continuation, with uploaded videos and with those of earlier jobs."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.service import SMALL, Service
from tests.videos import mp4, ramp
from wan22_bridge.media.inputs import read_last_frame
from wan22_bridge.media.writer import read_video_info

_SUBMIT = "/api/v1/generation/submit"
_FORM = {name: str(value) for name, value in SMALL.items()}
_FEW_STEPS = {"prompt": "it rains", "steps": "4"}


def _accepted(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return str(body.get("task_id") or body["id"])


def _file(data: bytes) -> tuple[str, bytes, str]:
    return "a.mp4", data, "video/mp4"


def _frame(service: Service, task: dict[str, Any]) -> Any:
    """Returns the last frame [height, width] in shades of gray."""
    answer = httpx.get(f"{service.url}/api/v1/outputs/{task['id']}/last_frame").raise_for_status()
    with Image.open(io.BytesIO(answer.content)) as image:
        return np.asarray(image.convert("L")).astype(float)


def test_video_to_video_keeps_the_inputs_length_shape_and_frame_rate(service: Service, tmp_path: Path) -> None:
    with service.client() as client:
        answer = client.post(_SUBMIT, data=_FEW_STEPS, files={"video": _file(mp4(ramp(15), fps=12))})
    task = service.wait_for(_accepted(answer), "completed", "failed")

    assert (task["status"], task["model"], task["resolution"]) == ("completed", "tiny-t2v", "112x64")
    assert (task["num_frames"], task["fps"], task["strength"]) == (13, 12, 0.5)
    assert (task["steps"], task["total_steps"], task["current_step"]) == (4, 2, 2)
    assert (task["image_path"], task["source_task_id"]) == (None, None)
    assert task["video_path"] in [path.name for path in (service.data_dir / "inputs").iterdir()]
    (tmp_path / "a.mp4").write_bytes(httpx.get(service.url + task["output_path"]).content)
    info = read_video_info(tmp_path / "a.mp4")
    assert (info.width, info.height, info.num_frames, info.fps) == (112, 64, 13, 12.0)
    assert info.parameters["strength"] == 0.5


def test_a_lower_strength_keeps_more_of_the_input(service: Service) -> None:
    dark, bright = (np.full((5, 64, 64, 3), gray, dtype=np.uint8) for gray in (0, 255))
    difference = {}
    for strength in ("0.05", "1"):
        frames = []
        for pixels in (dark, bright):
            with service.client() as client:
                answer = client.post(
                    _SUBMIT,
                    data=_FORM | {"steps": "20", "seed": "1", "strength": strength},
                    files={"video": _file(mp4(pixels))},
                )
            task = service.wait_for(_accepted(answer), "completed", "failed")
            assert task["status"] == "completed", task["error"]
            frames.append(_frame(service, task))
        difference[strength] = float(np.abs(frames[0] - frames[1]).mean())
    assert difference["0.05"] > 2 * difference["1"]


@pytest.mark.parametrize(
    ("field", "model"), [("video_path", "TI2V-5B"), ("image_path", "auto"), ("image_path", "ti2v")]
)
def test_an_uploaded_video_is_used_by_its_id(field: str, model: str, service: Service) -> None:
    data = mp4(ramp(9), fps=30)
    with service.client() as client:
        upload = client.post("/api/v1/uploads", files={"file": _file(data)}).json()
        assert upload == {
            "id": upload["id"],
            "kind": "video",
            "width": 96,
            "height": 64,
            "size_bytes": len(data),
            "num_frames": 9,
            "fps": 30.0,
        }
    task = service.finished(num_frames=5, model_type=model, **{field: upload["id"]})

    assert task[field] == upload["id"]
    assert task["model"] == ("tiny-i2v" if model == "auto" else "tiny-ti2v")
    assert (task["resolution"], task["num_frames"], task["fps"]) == ("64x64", 5, 30)


def test_a_video_in_the_image_field_is_continued_from_its_last_frame(service: Service, tmp_path: Path) -> None:
    """A video's file, the id of its job and its last frame as an image all give the same continuation."""
    first = service.finished(seed=1, resolution="96x64", fps=12)
    fields = {"seed": 2, "num_frames": None, "resolution": None}
    with service.client() as client:
        (tmp_path / "a.mp4").write_bytes(client.get(f"/api/v1/outputs/{first['id']}/video").content)
        read_last_frame(tmp_path / "a.mp4", 96, 64).save(tmp_path / "a.png")
        ids = [
            client.post("/api/v1/uploads", files={"file": (tmp_path / name).read_bytes()}).json()["id"]
            for name in ("a.mp4", "a.png")
        ]
    from_file = service.finished(image_path=ids[0], **fields)
    from_job = service.finished(image_path=first["id"], **fields)
    from_image = service.finished(image_path=ids[1], **fields | {"resolution": "96x64", "fps": 12})

    for task in (from_file, from_job):
        assert (task["resolution"], task["fps"], task["num_frames"]) == ("96x64", 12, 17)
        assert task["image_path"] == ids[0]
        assert np.array_equal(_frame(service, task), _frame(service, from_image))
    assert (from_file["source_task_id"], from_job["source_task_id"]) == (None, first["id"])


def test_an_edit_survives_the_deletion_of_its_input_job(service: Service) -> None:
    first = service.finished(num_frames=9)
    with service.client() as client:
        answer = client.post("/v1/videos/edits", json={"prompt": "in snow", "video": {"id": first["id"]}, "steps": 2})
        edited = _accepted(answer)
        assert answer.json()["remixed_from_video_id"] == first["id"]
        assert client.delete(f"/v1/videos/{first['id']}").status_code == 200
        task = service.wait_for(edited, "completed", "failed")
        assert task["status"] == "completed", task["error"]
        assert (task["num_frames"], task["source_task_id"]) == (9, first["id"])
        remixed = _accepted(client.post(f"/v1/videos/{edited}/remix", json={"prompt": "in rain"}))
    remix = service.wait_for(remixed, "completed", "failed")
    same = ("seed", "video_path", "strength", "steps", "resolution", "num_frames", "fps", "model")
    assert {name: remix[name] for name in same} == {name: task[name] for name in same}
    assert (remix["prompt"], remix["source_task_id"]) == ("in rain", edited)


def test_an_extension_is_joined_to_its_input_and_has_the_requested_length(service: Service) -> None:
    with service.client() as client:
        answer = client.post(
            "/v1/videos/extensions",
            data={"prompt": "it goes on", "seconds": "0.5", "steps": "2", "size": "64x64"},
            files={"video": _file(mp4(fps=8))},
        )
    video = answer.json()
    assert (video["model"], video["seconds"], video["size"]) == ("tiny-i2v", "2", "64x64")
    task = service.wait_for(_accepted(answer), "completed", "failed")
    assert (task["status"], task["num_frames"]) == ("completed", 13 + 5 - 1)


def test_segments_become_one_video(service: Service) -> None:
    segments = [{"prompt": "a red circle"}, {"prompt": "a blue circle", "num_frames": 9}]
    with service.client() as client:
        answer = client.post(
            "/api/v1/generation/submit",
            json={"segments": segments, "num_frames": 5, "steps": 2, "resolution": "64x64", "model_type": "ti2v"},
        )
    task = service.wait_for(answer.json()["task_id"], "completed", "failed")
    assert (task["status"], task["num_frames"], task["current_step"]) == ("completed", 13, 4)
