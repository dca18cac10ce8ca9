"""No failure shows a client what is not theirs to know, and no prompt and no secret appears in the log."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from deployments.jobs.service import JobService
from serve_app.api.application import make_api
from serve_app.settings import Settings
from tests.http_api import open_api, open_services
from tests.keys import ADMIN, KeyedApi, open_keyed_api
from tests.pictures import png
from tests.receiver import Receiver, receiving
from tests.rejections import check_rejection

_PROMPT, _SECRET = "marker of the prompt", "markerofthesecret"
_SUBMIT = "/api/v1/generation/submit"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder whose path must not be seen."""
    return tmp_path / "marker_of_the_folder"


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "ray.serve")
    return caplog


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def _check(answer: Any, log: pytest.LogCaptureFixture) -> None:
    for marker in (_PROMPT, _SECRET, "marker_of_the_folder", "Traceback", "site-packages"):
        assert marker not in answer.text, marker
    for marker in (_PROMPT, _SECRET):
        assert marker not in log.text, marker


@pytest.mark.parametrize(
    "fault",
    [
        "ALTER TABLE jobs RENAME TO gone",
        "ALTER TABLE settings RENAME TO gone",
        "ALTER TABLE webhook_deliveries RENAME TO gone",
        "ALTER TABLE jobs DROP COLUMN eta_seconds",
    ],
)
def test_a_failed_query(folder: Path, log: pytest.LogCaptureFixture, fault: str) -> None:
    services = open_services(Settings(data_dir=folder).with_absolute_paths())
    with TestClient(make_api(services), raise_server_exceptions=False) as client:
        with services.store.database.writing() as connection:
            connection.execute(text(fault))
        body = {"prompt": _PROMPT, "webhook_url": f"https://example.com/{_SECRET}", "model_type": "tiny-i2v"}
        answers = [
            client.post(_SUBMIT, data=body, files={"image": ("a.png", png())}),
            client.post("/v1/videos", json={"prompt": _PROMPT}),
            client.get("/api/v1/webhooks"),
        ]
    assert any(answer.status_code == 503 for answer in answers)
    assert "A database query failed" in log.text
    for answer in (answer for answer in answers if not answer.is_success):
        _check(answer, log)


def test_an_unexpected_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{folder} {_SECRET} {_PROMPT}")

    monkeypatch.setattr(JobService, "submit", fail)
    with open_api(folder) as client:
        for path in (_SUBMIT, "/v1/videos"):
            answer = client.post(path, json={"prompt": _PROMPT})
            check_rejection(answer, 500, "internal_error")
            assert _SECRET not in answer.text
            assert "marker_of_the_folder" not in answer.text


def test_an_unexpected_error_of_a_tool(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{folder} {_SECRET}")

    monkeypatch.setattr(JobService, "submit", fail)
    with open_keyed_api(folder) as api:
        answer = _call_tool(api, "create_video", {"prompt": _PROMPT})
        assert "The service failed unexpectedly" in answer.text
        assert _SECRET not in answer.text
        assert "marker_of_the_folder" not in answer.text


def _call_tool(api: KeyedApi, name: str, arguments: dict[str, Any]) -> Any:
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    params = {"name": name, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return api.call(ADMIN, "POST", "/mcp", json=body, headers=headers)


def test_an_error_of_the_bucket(
    folder: Path, server: Receiver, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": f"AKIA{_SECRET}",
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server.url,
    }.items():
        monkeypatch.setenv(name, value)
    message = f"The key AKIA{_SECRET} may not write to arn:aws:s3:::private-bucket"
    server.status = 403
    server.content = f"<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>".encode()
    with open_api(folder, storage_url="s3://private-bucket/prefix") as client:
        answer = client.post("/api/v1/uploads", files={"file": png()})
    error = check_rejection(answer, 500, "storage_failed")
    assert error["message"] == "Cannot write to the bucket."
    assert "private-bucket" not in answer.text
    assert "Cannot write to the bucket: The key AKIA…" in log.text
    _check(answer, log)


def test_an_error_of_the_prompt_enhancer(
    folder: Path, server: Receiver, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENHANCER_KEY", _SECRET)
    server.content = f"the key {_SECRET} is not valid for: {_PROMPT}".encode()
    enhancer = {"url": server.url, "model": "m", "api_key_env": "ENHANCER_KEY"}
    with open_api(folder, prompt_enhancer=enhancer) as client:
        for status in (401, 500, 200):
            server.status = status
            answer = client.post("/api/v1/prompt/enhance", json={"prompt": _PROMPT})
            check_rejection(answer, 503, "prompt_enhancer_unavailable")
            _check(answer, log)
    assert server.requests[0].headers["authorization"] == f"Bearer {_SECRET}"


def test_a_lora_that_cannot_be_read(folder: Path, log: pytest.LogCaptureFixture) -> None:
    loras = folder / "data" / "loras"
    loras.mkdir(parents=True)
    (loras / "bad.safetensors").write_bytes(b"x" * 100)
    (loras / "folder.safetensors").mkdir()
    (loras / "gone.safetensors").symlink_to(folder / "missing")
    with open_api(folder) as client:
        for name in ("bad", "folder", "gone", "unknown"):
            _check(client.get(f"/api/v1/lora/{name}/status"), log)
            answer = client.post(_SUBMIT, json={"prompt": _PROMPT, "loras": [{"name": name}]})
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == "loras"
            _check(answer, log)


def test_a_data_folder_that_cannot_be_written(folder: Path, log: pytest.LogCaptureFixture) -> None:
    with open_api(folder) as client:
        inputs = folder / "data" / "inputs"
        inputs.rmdir() if inputs.is_dir() else None
        inputs.write_bytes(b"a file in place of the folder")
        answer = client.post("/api/v1/uploads", files={"file": png()})
        check_rejection(answer, 500, "storage_failed")
        _check(answer, log)


def test_a_key_in_a_request_that_fails(folder: Path, log: pytest.LogCaptureFixture) -> None:
    with open_keyed_api(folder) as api:
        headers = {"authorization": f"Bearer wan22_{'0' * 16}_{_SECRET}", "x-api-key": _SECRET}
        _check(api.client.get("/api/v1/queue", headers=headers), log)
        _check(api.call(ADMIN, "GET", f"/api/v1/outputs/x/video?signature={_SECRET}&expires=1"), log)
        for text_of_key in api.keys.values():
            assert text_of_key.rpartition("_")[2] not in log.text
