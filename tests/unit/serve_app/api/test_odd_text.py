"""Ids, names and texts that no client should send, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.http_api import make_bare_api, open_api

DOCUMENT = make_bare_api().openapi()
OPERATIONS = [
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", []))
]
NAMES = {
    "ten thousand characters": "x" * 10_000,
    "a job id with a long end": "video_" + "9" * 10_000,
    "NUL": "%00",
    "NUL in a job id": "video_1%00",
    "encoded parent folder": "%2e%2e",
    "encoded slashes": "..%2F..%2Fetc%2Fpasswd",
    "encoded backslashes": "..%5C..%5Cetc",
    "emoji": "%F0%9F%8E%AC",
    "bytes that are not UTF-8": "%FF%FE",
    "half of a surrogate pair": "%ED%A0%80",
    "line breaks": "a%0D%0Ab",
    "a space": "%20",
    "a percent sign": "%25s",
}


@pytest.fixture
def api(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_api(tmp_path, database_url=database_url) as client:
        yield client


def _check(answer: Any, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text[:300]
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert body["detail"] == body["error"]["message"]
    assert len(answer.content) < 2000, "an error quotes the beginning of a long text only"


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])
def test_an_odd_id_in_a_path_is_unknown_or_invalid(api: TestClient, method: str, path: str) -> None:
    before, _, rest = path.partition("{")
    after = rest.partition("}")[2]
    for description, name in NAMES.items():
        answer = api.request(method, f"{before}{name}{after}")
        try:
            if not path.startswith("/api/v1/keys/"):  # without keys, there are none to rotate
                _check(answer, 400, 404)
            else:
                _check(answer, 400, 404, 409)
        except AssertionError as exc:
            raise AssertionError(f"{description}: {exc}") from exc


@pytest.mark.parametrize("route", ["/api/v1/generation/submit", "/api/v1/generation/estimate", "/v1/videos"])
@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a\x00b"},
        {"negative_prompt": "a\x00b"},
        {"metadata": {"a": "b\x00"}},
        {"metadata": {"a\x00": "b"}},
        {"model_type": "t2v\x00"},
        {"preset": "lightning\x00"},
        {"resolution": "64x64\x00"},
        {"aspect_ratio": "1:1\x00"},
        {"lora_path": "a\x00"},
        {"loras": [{"name": "a\x00"}]},
        {"image_path": "a\x00"},
        {"video_path": "video_1\x00"},
        {"segments": [{"prompt": "a"}, {"prompt": "b\x00"}], "prompt": None},
        {"a\x00": 1},
    ],
    ids=str,
)
def test_nul_in_a_field_of_a_submission_is_invalid(api: TestClient, route: str, fields: dict[str, Any]) -> None:
    _check(api.post(route, json={"prompt": "a"} | fields), 400, 404)


def test_nul_in_a_form_is_invalid(api: TestClient) -> None:
    for fields in ({"prompt": "a\x00"}, {"prompt": "a", "metadata[a]": "\x00"}, {"prompt": "a", "x\x00": "1"}):
        _check(api.post("/api/v1/generation/submit", data=fields), 400)


@pytest.mark.parametrize(
    "path",
    ["/api/v1/queue?after=%00", "/api/v1/queue?status=%00", "/v1/videos?after=video_1%00", "/v1/videos?order=%00"],
)
def test_nul_in_a_query_is_invalid(api: TestClient, path: str) -> None:
    _check(api.get(path), 400, 404)


def test_nul_in_other_bodies_is_invalid(api: TestClient) -> None:
    for path, body in (
        ("/api/v1/models/download", {"model_type": "t2v\x00"}),
        ("/api/v1/prompt/enhance", {"prompt": "a\x00"}),
    ):
        _check(api.post(path, json=body), 400, 404)


def test_an_idempotency_key_that_cannot_be_stored_is_invalid(api: TestClient) -> None:
    for key in ("a\x00", "x" * 256):
        _check(api.post("/api/v1/generation/submit", json={"prompt": "a"}, headers={"Idempotency-Key": key}), 400)
