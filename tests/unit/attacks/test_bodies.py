"""Bodies that are made to cost the service much more than they cost their sender."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from serve_app.api.live.sockets import _MAX_CHARACTERS
from tests.hostile import MB, measuring_growth
from tests.http_api import make_bare_api, open_api
from tests.rejections import check_rejection
from wan22_bridge.models.bounded_json import MAX_DEPTH, MAX_PARTS

_SUBMIT, _FORM = "/api/v1/generation/submit", "application/x-www-form-urlencoded"
_SESSION = "/api/v1/session"
_JSON = {"content-type": "application/json"}
_DOCUMENT = make_bare_api().openapi()
_ROUTES = [
    (method.upper(), path.replace("{name}", "tiny-neon").replace("{video_id}", "video_1"))
    for path, item in _DOCUMENT["paths"].items()
    for method, operation in item.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
] + [("POST", "/mcp")]
_NESTED_FIELDS = ("metadata", "segments", "loras", "seeds", "lora", "image", "extra_body", "prompt", "steps", "user")

each_route = pytest.mark.parametrize(("method", "path"), _ROUTES, ids=[f"{method} {path}" for method, path in _ROUTES])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with open_api(tmp_path_factory.mktemp("bodies")) as client:
        yield client


def _is_unharmed(api: TestClient) -> bool:
    return bool(api.get("/api/v1/queue").json()["total_tasks"] == 0)


def _send(api: TestClient, method: str, path: str, content: bytes) -> Any:
    accepted = {"accept": "application/json, text/event-stream"}
    return api.request(method, path, content=content, headers=_JSON | accepted)


@each_route
def test_a_body_over_the_limit_is_rejected_by_its_declared_length(method: str, path: str, api: TestClient) -> None:
    answer = _send(api, method, path, b" " * 33_000_000)
    if path == "/mcp":
        assert answer.status_code == 413, "the MCP server has an error of its own"
    else:
        limit = "4096 bytes" if path == _SESSION else "32 MB"
        assert f" {limit}." in check_rejection(answer, 413, "payload_too_large")["message"]


def test_only_the_upload_of_loras_may_be_larger_behind_a_prefix_too(tmp_path: Path) -> None:
    with open_api(tmp_path, root_path="/wan", max_upload_mb=1, max_lora_upload_mb=2) as client:
        files = {"file": ("a.safetensors", bytes(1_500_000))}
        check_rejection(client.post("/api/v1/lora/upload", files=files), 400, "lora_unreadable")
        check_rejection(client.post("/api/v1/uploads", files=files), 413, "payload_too_large")


@each_route
def test_json_that_becomes_too_many_objects_is_rejected_before_it_is_parsed(
    method: str, path: str, api: TestClient
) -> None:
    body = b'{"prompt": [' + b"{}," * 3_000_000 + b"{}]}"
    with measuring_growth() as growth:
        answer = _send(api, method, path, body)
    if path == _SESSION:
        check_rejection(answer, 413, "payload_too_large")
    else:
        assert f"more than {MAX_PARTS} parts" in check_rejection(answer, 400, "invalid_json")["message"]
    assert growth.bytes < 80 * MB, "the objects would take 200 MB"


@each_route
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 900, 100_000])
def test_deeply_nested_json_is_rejected_before_it_is_parsed(
    method: str, path: str, depth: int, api: TestClient
) -> None:
    answer = _send(api, method, path, b"[" * depth + b"]" * depth)
    if path == _SESSION and 2 * depth > 4096:
        check_rejection(answer, 413, "payload_too_large")
    else:
        assert "brackets inside brackets" in check_rejection(answer, 400, "invalid_json")["message"]


@pytest.mark.parametrize("content", [b"]" * 10_000_000, b'{"a": 1}]', b'"' * 3_000_001, b'"' + b"\\" * 10_000_000])
def test_json_that_is_none_costs_one_look_at_it(content: bytes, api: TestClient) -> None:
    check_rejection(_send(api, "POST", _SUBMIT, content), 400, "invalid_json")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le"])
def test_another_encoding_does_not_hide_the_parts_of_json(encoding: str, api: TestClient) -> None:
    body = '{"prompt": "a cat", "metadata": [' + "{}," * MAX_PARTS + "{}]}"
    check_rejection(_send(api, "POST", _SUBMIT, body.encode(encoding)), 400, "invalid_json")


@pytest.mark.parametrize("path", [_SUBMIT, "/v1/videos"])
@pytest.mark.parametrize("field", _NESTED_FIELDS)
@pytest.mark.parametrize("in_form", [False, True])
def test_values_nested_as_deeply_as_possible_are_an_error_of_the_client(
    path: str, field: str, in_form: bool, api: TestClient
) -> None:
    """A form's texts are not part of any JSON, and Python's notation is read, too."""
    for opening, closing in (("[", "]"), ('{"a":', "}"), ("(", ",)")):
        for depth in (MAX_DEPTH - 2, 190, 500, 900, 5000):
            text = opening * depth + ("1" if opening != "[" else "") + closing * depth
            if in_form:
                answer = api.post(path, data={"prompt": "a cat", field: text})
            elif opening != "(":
                answer = _send(api, "POST", path, b'{"prompt": "a cat", "%b": %b}' % (field.encode(), text.encode()))
            assert answer.status_code < 500, answer.text
    for job in api.get("/v1/videos").json()["data"]:
        api.delete(f"/v1/videos/{job['id']}")


def test_ten_thousand_form_fields_are_rejected(api: TestClient) -> None:
    fields = {f"field{index}": "1" for index in range(10_000)}
    for path in (_SUBMIT, "/v1/videos", "/api/v1/uploads", "/api/v1/lora/upload", "/v1/videos/edits"):
        check_rejection(api.post(path, data=fields), 400, "invalid_form")
        check_rejection(api.post(path, files=[(name, (None, "1")) for name in fields]), 400, "invalid_form")
        check_rejection(api.post(path, files=[(name, ("a.png", b"1")) for name in fields]), 400, "invalid_form")
    assert _is_unharmed(api)


def test_a_million_values_of_one_form_field_are_rejected(api: TestClient) -> None:
    body = b"&".join([b"seeds=1"] * 1_000_000)
    check_rejection(api.post(_SUBMIT, content=body, headers={"content-type": _FORM}), 400, "invalid_form")


def test_endless_headers_of_a_part_are_rejected(api: TestClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + b"a" * 2_000_000 + b'"\r\n'
    many = b'--b\r\nContent-Disposition: form-data; name="file"\r\n' + b"X-A: b\r\n" * 100_000
    for content in (head + b"\r\na\r\n--b--", many + b"\r\na\r\n--b--"):
        headers = {"content-type": "multipart/form-data; boundary=b"}
        answer = api.post("/api/v1/uploads", content=content, headers=headers)
        assert answer.status_code == 400, answer.text
        assert len(answer.content) < 2000


@pytest.mark.parametrize("path", [_SUBMIT, "/v1/videos", "/api/v1/queue/reorder", "/api/v1/prompt/enhance"])
def test_a_name_of_megabytes_is_neither_compared_nor_repeated(path: str, api: TestClient) -> None:
    body = json.dumps({"prompt": "a cat", "task_ids": ["video_1"], "ab" * 5_000_000: 1}).encode()
    with measuring_growth() as growth:
        answer = _send(api, "POST", path, body)
    check_rejection(answer, 400, "unknown_field")
    assert len(answer.content) < 2000
    assert growth.bytes < 200 * MB, "comparing it with the known names would take twice as much"


@pytest.mark.parametrize("path", ["preview", "validate", "enhance"])
def test_a_prompt_of_megabytes_is_not_repeated(path: str, api: TestClient) -> None:
    answer = api.post(f"/api/v1/prompt/{path}", json={"prompt": "a " * 5_000_000})
    assert answer.status_code == 400
    assert len(answer.content) < 2000


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
@pytest.mark.parametrize("content_type", ["application/json", _FORM, "multipart/form-data; boundary=b"])
def test_a_compressed_body_is_not_unpacked(encoding: str, content_type: str, api: TestClient) -> None:
    packed = gzip.compress(b'{"prompt": "a cat"}' + b" " * 10_000_000)
    headers = {"content-type": content_type, "content-encoding": encoding}
    assert api.post(_SUBMIT, content=packed, headers=headers).status_code == 400
    assert _is_unharmed(api)


@pytest.mark.parametrize("number", ["9" * 4000, "9" * 100_000, "1e999", "-1e999", "NaN", "1e-999"])
def test_numbers_that_no_machine_holds_are_an_error_of_the_client(number: str, api: TestClient) -> None:
    for field in ("seed", "steps", "guidance_scale", "fps", "num_frames", "seconds", "width", "num_outputs"):
        answer = _send(api, "POST", _SUBMIT, f'{{"prompt": "", "{field}": {number}}}'.encode())
        assert answer.status_code == 400, (field, answer.text)
        assert api.post(_SUBMIT, data={"prompt": "", field: number}).status_code == 400, field


@pytest.mark.parametrize("text", ["\u200b" * 2000, "\u0301" * 2000, "\ufdfa" * 2000, "\u202e" * 2000, "👩‍👩‍👧‍👦" * 280])
def test_texts_that_grow_when_they_are_normalized_do_not_grow(text: str, api: TestClient) -> None:
    for path in ("preview", "validate", "enhance"):
        answer = api.post(f"/api/v1/prompt/{path}", json={"prompt": text})
        assert answer.status_code in (200, 400)
        assert len(answer.content) < 30_000


def test_a_socket_answers_a_message_of_megabytes_without_parsing_it(api: TestClient) -> None:
    with api.websocket_connect("/ws") as socket:
        for message in (
            "[" * 100_000,
            "{}" * _MAX_CHARACTERS,
            '{"type": "ping", "data": [' + "{}," * 3_000_000 + "0]}",
        ):
            socket.send_text(message)
            while (answer := socket.receive_json())["type"] != "error":
                pass
            assert f"expected at most {_MAX_CHARACTERS}" in answer["data"]["message"]
        socket.send_text("[" * (_MAX_CHARACTERS - 1))
        while (answer := socket.receive_json())["type"] != "error":
            pass
        assert answer["data"]["message"].startswith("Expected a JSON object")
        socket.send_bytes(b"\xff" * 100)
        socket.send_json({"type": "ping"})
        while socket.receive_json()["type"] != "pong":
            pass
