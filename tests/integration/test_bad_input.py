"""Invalid requests are rejected with the common error body, and leave nothing behind."""

import io
import socket
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image

from tests.pictures import png
from tests.rejections import check_rejection
from tests.service import SMALL, Service

_SUBMIT = "/api/v1/generation/submit"
_UNKNOWN = "video_000000000000000000000000"


def _bomb() -> bytes:
    """Returns a small PNG that claims to be 60000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6)))


def _truncated() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    return buffer.getvalue()[:-500]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": ""}, "prompt_empty", "prompt"),
        ({"prompt": " \n "}, "prompt_empty", "prompt"),
        ({"prompt": "x" * 2001}, "prompt_too_long", "prompt"),
        ({"prompt": None}, "invalid_value", "prompt"),
        ({"prompt": 5}, "invalid_value", "prompt"),
        ({"model_type": "sora-2"}, "unknown_model", "model_type"),
        ({"promt": "x"}, "unknown_field", "promt"),
        ({"steps": 0}, "invalid_value", "steps"),
        ({"steps": 101}, "invalid_value", "steps"),
        ({"steps": "many"}, "invalid_value", "steps"),
        ({"resolution": "abc"}, "invalid_resolution", "resolution"),
        ({"resolution": "0x0"}, "invalid_resolution", "resolution"),
        ({"resolution": "100000x100000"}, "resolution_too_large", "resolution"),
        ({"num_frames": 5000}, "too_many_frames", "num_frames"),
        ({"model_type": "I2V-A14B"}, "image_required", "image"),
        ({"image_path": "../jobs.db"}, "unknown_upload", "image_path"),
        ({"image_path": "/etc/passwd"}, "unknown_upload", "image_path"),
        ({"guidance_scale": -1}, "invalid_value", "guidance_scale"),
        ({"scheduler": "ddim"}, "invalid_value", "scheduler"),
        ({"seed": 2**60}, "invalid_value", "seed"),
        ({"lora_path": "none-such"}, "lora_not_found", "loras"),
        ({"loras": [{"name": "../jobs"}]}, "lora_not_found", "loras"),
        ({"loras": [{"name": "a"}, {"name": "a"}]}, "invalid_value", "loras"),
        ({"loras": [{"name": "a", "strength": 3}]}, "invalid_value", "loras.0.strength"),
        ({"step_cache": "magic"}, "invalid_value", "step_cache"),
        ({"quantization_level": "int3"}, "invalid_value", "quantization_level"),
        ({"metadata": {str(index): "x" for index in range(17)}}, "invalid_value", "metadata"),
    ],
)
def test_a_bad_field_is_named(
    fields: dict[str, Any], code: str, param: str, service: Service, nothing_left: None
) -> None:
    with service.client() as client:
        error = check_rejection(client.post(_SUBMIT, json=SMALL | fields), 400, code)
    assert error["param"] == param
    assert error["type"] == "invalid_request"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"model": "sora-2"}, "unknown_model", "model"),
        ({"size": "abc"}, "invalid_resolution", "size"),
        ({"seconds": "soon"}, "invalid_seconds", "seconds"),
        ({"seconds": 10**400}, "invalid_seconds", "seconds"),
        ({"seconds": {"a": 1}}, "invalid_seconds", "seconds"),
        ({"seconds": 3000}, "too_many_frames", "seconds"),
        ({"model": "i2v"}, "image_required", "input_reference"),
        ({"input_reference": {"file_id": "nope"}}, "unknown_upload", "input_reference"),
        ({"input_reference": {"image_url": "https://example.org/a.png"}}, "invalid_input_reference", "input_reference"),
        ({"input_reference": {"image_url": "data:image/png;base64,!"}}, "invalid_input_reference", "input_reference"),
        ({"input_reference": {"image_url": "data:image/png;base64,AAAA"}}, "invalid_image", "input_reference"),
    ],
)
def test_errors_name_openai_fields_as_the_client_did(
    fields: dict[str, Any], code: str, param: str, service: Service, nothing_left: None
) -> None:
    with service.client() as client:
        error = check_rejection(client.post("/v1/videos", json={"prompt": "a cat"} | fields), 400, code)
    assert error["param"] == param


def test_a_missing_prompt_is_named(service: Service, nothing_left: None) -> None:
    with service.client() as client:
        assert check_rejection(client.post(_SUBMIT, json={}), 400, "invalid_value")["param"] == "prompt"
        assert check_rejection(client.post("/v1/videos", json={}), 400, "invalid_value")["param"] == "prompt"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"just some text", "invalid_image"),
        (_truncated(), "invalid_image"),
        (_bomb(), "image_too_large"),
        (b"", "invalid_image"),
    ],
)
@pytest.mark.parametrize("where", ["image", "end_image", "input_reference", "file"])
def test_a_bad_image_is_rejected(data: bytes, code: str, where: str, service: Service, nothing_left: None) -> None:
    path = {"input_reference": "/v1/videos", "file": "/api/v1/uploads"}.get(where, _SUBMIT)
    files = {"image": ("a.png", png(), "image/png")} if where == "end_image" else {}
    fields = {name: str(value) for name, value in SMALL.items()} if where in ("image", "end_image") else {}
    if where == "input_reference":
        fields = {"prompt": "a cat"}
    with service.client() as client:
        check_rejection(client.post(path, data=fields, files=files | {where: ("b.png", data, "image/png")}), 400, code)


@pytest.mark.parametrize(
    ("content", "content_type", "code"),
    [
        (b"{", "application/json", "invalid_json"),
        (b"[1]", "application/json", "invalid_json"),
        (b'{"prompt": "a\\ud800b"}', "application/json", "invalid_json"),
        (b"\xff\xfe", "application/json", "invalid_json"),
        (b"[" * 100_000, "application/json", "invalid_json"),
        (b"prompt=x", "text/plain", "unsupported_content_type"),
        (b"no boundary", "multipart/form-data", "invalid_form"),
        (b"nonsense", "multipart/form-data; boundary=b", "invalid_form"),
        (b"prompt=x&prompt[a]=y", "application/x-www-form-urlencoded", "invalid_form"),
    ],
)
def test_an_unreadable_body_is_rejected(
    content: bytes, content_type: str, code: str, service: Service, nothing_left: None
) -> None:
    with service.client() as client:
        check_rejection(client.post(_SUBMIT, content=content, headers={"content-type": content_type}), 400, code)


def test_a_file_in_an_unknown_field_is_rejected(service: Service, nothing_left: None) -> None:
    with service.client() as client:
        answer = client.post(_SUBMIT, data={"prompt": "x"}, files={"picture": ("a.png", png(), "image/png")})
    assert check_rejection(answer, 400, "unknown_field")["param"] == "picture"


def test_an_upload_is_rejected_by_its_declared_length(service: Service, nothing_left: None) -> None:
    with service.client() as client:
        answer = client.post("/api/v1/uploads", files={"file": ("a.png", bytes(40_000_000), "image/png")})
    assert "32 MB" in check_rejection(answer, 413, "payload_too_large")["message"]


def test_an_upload_without_a_length_is_rejected_once_it_passes_the_limit(service: Service, nothing_left: None) -> None:
    """The response is sent although the client never stops sending."""
    head = (
        f"POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    chunk = b"%x\r\n" % 1_000_000 + bytes(1_000_000) + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"%x\r\n" % len(part) + part + b"\r\n")
        deadline = time.monotonic() + 60
        connection.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() < deadline:
            try:
                connection.sendall(chunk)
                sent += 1
            except (TimeoutError, ConnectionError):
                pass
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert answer.startswith(b"HTTP/1.1 413"), (sent, answer[:200])
    assert sent < 500


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/api/v1/generation/{_UNKNOWN}", 404, "job_not_found"),
        ("GET", f"/api/v1/generation/{_UNKNOWN}/events", 404, "job_not_found"),
        ("POST", f"/api/v1/queue/{_UNKNOWN}/cancel", 404, "job_not_found"),
        ("GET", f"/api/v1/outputs/{_UNKNOWN}", 404, "job_not_found"),
        ("GET", f"/api/v1/outputs/{_UNKNOWN}/video", 404, "job_not_found"),
        ("DELETE", f"/api/v1/outputs/{_UNKNOWN}", 404, "job_not_found"),
        ("GET", f"/v1/videos/{_UNKNOWN}", 404, "job_not_found"),
        ("GET", f"/v1/videos/{_UNKNOWN}/content", 404, "job_not_found"),
        ("DELETE", f"/v1/videos/{_UNKNOWN}", 404, "job_not_found"),
        ("GET", f"/v1/videos?after={_UNKNOWN}", 404, "job_not_found"),
        ("GET", f"/api/v1/queue?after={_UNKNOWN}", 404, "job_not_found"),
        ("GET", "/api/v1/generation/%00", 404, "job_not_found"),
        ("GET", "/v1/videos?limit=0", 400, "invalid_value"),
        ("GET", "/v1/videos?order=sideways", 400, "invalid_value"),
        ("GET", "/api/v1/queue?status=asleep", 400, "invalid_value"),
        ("GET", "/v1/models/none", 404, "model_not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/v1/videos", 405, "method_not_allowed"),
        ("GET", "/api/v1/outputs/..%2f..%2fjobs.db/video", 404, "not_found"),
    ],
)
def test_unknown_resources_and_parameters_are_rejected(
    method: str, path: str, status: int, code: str, service: Service
) -> None:
    with service.client() as client:
        check_rejection(client.request(method, path), status, code)


def test_cancelling_an_ended_job_is_a_conflict(service: Service) -> None:
    task = service.finished()
    with service.client() as client:
        answer = client.post(f"/api/v1/queue/{task['id']}/cancel")
    assert "already completed" in check_rejection(answer, 409, "job_ended")["message"]
    assert answer.headers["x-should-retry"] == "false"
