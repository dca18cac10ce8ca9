"""Unusable videos are rejected with an error that names their field, and leave nothing behind."""

from typing import Any

import pytest

from tests.pictures import png
from tests.rejections import check_rejection
from tests.service import LONG, Service, wait_until
from tests.videos import cut_off, mp4, ramp, sound
from wan22_bridge.media.videos import MAX_FRAMES

_SUBMIT, _UPLOADS = "/api/v1/generation/submit", "/api/v1/uploads"
_EDITS, _EXTENSIONS = "/v1/videos/edits", "/v1/videos/extensions"
_UNKNOWN = "video_000000000000000000000000"
_ID = "0" * 64

BAD = {
    "text": (b"just some text", "invalid_video"),
    "nothing": (b"", "invalid_video"),
    "a picture": (png(), "invalid_video"),
    "sound alone": (sound(), "invalid_video"),
    "no frames": (mp4(ramp(0), movflags="empty_moov"), "invalid_video"),
    "cut off": (cut_off(), "invalid_video"),
    "too long": (mp4(ramp(MAX_FRAMES + 1, 16, 16)), "video_too_long"),
    "too large": (mp4(ramp(1, 4096, 2320)), "video_too_large"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("path", [_SUBMIT, _EDITS, _EXTENSIONS])
def test_a_bad_video_is_rejected(kind: str, path: str, service: Service, nothing_left: None) -> None:
    data, code = BAD[kind]
    with service.client() as client:
        answer = client.post(path, data={"prompt": "x"}, files={"video": ("a.mp4", data, "video/mp4")})
    error = check_rejection(answer, 400, code)
    assert error["param"] == "video"
    assert error["suggestions"]


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind not in ("text", "nothing", "a picture")])
@pytest.mark.parametrize(("path", "field"), [(_SUBMIT, "image"), ("/v1/videos", "input_reference"), (_UPLOADS, "file")])
def test_a_bad_video_in_an_image_field_is_rejected(
    kind: str, path: str, field: str, service: Service, nothing_left: None
) -> None:
    data, code = BAD[kind]
    fields = {} if path == _UPLOADS else {"prompt": "x"}
    with service.client() as client:
        answer = client.post(path, data=fields, files={field: ("a.mp4", data, "video/mp4")})
    assert check_rejection(answer, 400, code)["param"] == field


def test_a_file_that_is_no_image_is_rejected_with_the_hint_to_send_a_video(
    service: Service, nothing_left: None
) -> None:
    with service.client() as client:
        answer = client.post(_UPLOADS, files={"file": ("a.webm", b"\x1aE\xdf\xa3 and so on", "video/webm")})
    assert "Or send a video, as an mp4." in check_rejection(answer, 400, "invalid_image")["suggestions"]


@pytest.mark.parametrize(
    ("path", "fields", "files", "code", "param"),
    [
        (_SUBMIT, {"strength": "0"}, ["video"], "invalid_value", "strength"),
        (_SUBMIT, {"strength": "1.01"}, ["video"], "invalid_value", "strength"),
        (_SUBMIT, {"strength": "nan"}, ["video"], "invalid_value", "strength"),
        (_SUBMIT, {"strength": "0.05"}, ["video"], "strength_too_low", "strength"),
        (_SUBMIT, {"strength": "0.5"}, [], "video_required", "strength"),
        (_SUBMIT, {"strength": "0.5"}, ["image"], "video_required", "strength"),
        (_SUBMIT, {}, ["video", "image"], "video_with_image", "image"),
        (_SUBMIT, {"model_type": "I2V-A14B"}, ["video"], "video_not_supported", "video"),
        (_SUBMIT, {"model_type": "T2V-A14B"}, ["image"], "image_not_supported", "image"),
        (_SUBMIT, {"num_frames": "17"}, ["video"], "video_too_short", "num_frames"),
        (_SUBMIT, {}, ["image", "end_image"], "invalid_image", "end_image"),
        (_SUBMIT, {"video_path": "../jobs.db"}, [], "unknown_upload", "video_path"),
        (_SUBMIT, {"video_path": _ID}, [], "unknown_upload", "video_path"),
        (_EDITS, {}, [], "video_required", "video"),
        (_EDITS, {"video": "a.mp4"}, [], "invalid_video_reference", "video"),
        (_EDITS, {"video[file_id]": "a"}, [], "invalid_video_reference", "video"),
        (_EDITS, {}, ["video", "image"], "unknown_field", "image"),
        (_EDITS, {"image_path": _ID}, ["video"], "unknown_field", "image_path"),
        (_EDITS, {"model": "i2v"}, ["video"], "video_not_supported", "video"),
        (_EDITS, {"seconds": "3"}, ["video"], "video_too_short", "seconds"),
        (_EXTENSIONS, {}, [], "video_required", "video"),
        (_EXTENSIONS, {"model": "t2v"}, ["video"], "image_not_supported", "video"),
        (_EXTENSIONS, {"seconds": "60"}, ["video"], "too_many_frames", "seconds"),
        (_EXTENSIONS, {"strength": "0.5"}, ["video"], "video_required", "strength"),
    ],
)
def test_an_unsupported_use_of_a_video_is_rejected_by_field(
    path: str, fields: dict[str, str], files: list[str], code: str, param: str, service: Service, nothing_left: None
) -> None:
    with service.client() as client:
        answer = client.post(
            path,
            files={name: (None, value) for name, value in ({"prompt": "x"} | fields).items()}
            | {name: ("a.mp4", mp4(), "video/mp4") for name in files},
        )
    assert check_rejection(answer, 400, code)["param"] == param


def test_an_unknown_job_is_rejected_as_an_input(service: Service, nothing_left: None) -> None:
    with service.client() as client:
        for field in ("video_path", "image_path"):
            answer = client.post(_SUBMIT, json={"prompt": "x", field: _UNKNOWN})
            assert check_rejection(answer, 404, "job_not_found")["param"] == field
        for path in (_EDITS, _EXTENSIONS):
            for video_id in (_UNKNOWN, "nope", "", _ID):
                answer = client.post(path, json={"prompt": "x", "video": {"id": video_id}})
                assert check_rejection(answer, 404, "job_not_found")["param"] == "video"
        check_rejection(client.post(f"/v1/videos/{_UNKNOWN}/remix", json={"prompt": "x"}), 404, "job_not_found")


def _requests(video_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the requests that use an earlier job's video, by path and body."""
    return [
        (_SUBMIT, {"prompt": "x", "video_path": video_id}),
        (_SUBMIT, {"prompt": "x", "image_path": video_id}),
        (_EDITS, {"prompt": "x", "video": {"id": video_id}}),
        (_EXTENSIONS, {"prompt": "x", "video": {"id": video_id}}),
        (f"/v1/videos/{video_id}/remix", {"prompt": "x"}),
    ]


def test_running_and_cancelled_jobs_are_rejected_as_inputs(service: Service) -> None:
    task_id = service.submit(**LONG)
    wait_until(lambda: service.task(task_id)["current_step"] >= 1)
    with service.client() as client:
        for path, body in _requests(task_id):
            error = check_rejection(client.post(path, json=body), 409, "video_not_ready")
            assert error["can_retry"] is True
        client.post(f"/api/v1/queue/{task_id}/cancel")
        service.wait_for(task_id, "cancelled")
        for path, body in _requests(task_id):
            check_rejection(client.post(path, json=body), 404, "video_not_available")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_value", "prompt"),
        ({"prompt": " "}, "prompt_empty", "prompt"),
        ({"prompt": "x" * 2001}, "prompt_too_long", "prompt"),
        ({"prompt": "x", "seed": 3}, "unknown_field", "seed"),
        ({"prompt": "x", "webhook_url": 5}, "invalid_value", "webhook_url"),
        ({"prompt": "x", "webhook_url": "http://10.0.0.1"}, "webhook_url_invalid", "webhook_url"),
    ],
)
def test_a_remix_accepts_only_a_prompt_and_a_receiver(
    body: dict[str, Any], code: str, param: str, service: Service
) -> None:
    task = service.finished()
    with service.client() as client:
        answer = client.post(f"/v1/videos/{task['id']}/remix", json=body)
    assert check_rejection(answer, 400, code)["param"] == param
