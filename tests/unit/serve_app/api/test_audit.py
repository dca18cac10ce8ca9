"""The audit log of requests."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from deployments.jobs.api_keys import Scope
from serve_app.api.access.auditing import Audit, Auditing, Entry
from serve_app.api.access.callers import Caller
from tests.keys import ADMIN, ALICE, BOB, KeyedApi, open_keyed_api
from tests.loras import write_lora
from tests.rejections import check_rejection

_MARKER = "marker of a prompt"


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("audit")) as opened:
        yield opened


def _log(api: KeyedApi) -> list[dict[str, Any]]:
    answer = api.call(ADMIN, "GET", "/api/v1/audit")
    assert answer.status_code == 200, answer.text
    return [action for action in reversed(answer.json()["actions"]) if action["source"] == "api"]


def _operations(api: KeyedApi) -> list[tuple[str, str, dict[str, Any], str]]:
    return [(entry["action"], entry["target"], entry["details"], entry["result"]) for entry in _log(api)]


def test_what_an_administrator_changes_is_recorded(api: KeyedApi) -> None:
    quantization = {"quantization": "none"}
    api.call(ADMIN, "POST", "/api/v1/queue/pause")
    api.call(ADMIN, "POST", "/api/v1/system/optimization", json=quantization)
    api.call(ADMIN, "PUT", "/api/v1/system/generation-mode", json={"mode": "mock"})
    api.call(ADMIN, "POST", "/api/v1/queue/clear")
    api.call(ADMIN, "DELETE", "/api/v1/lora/unknown")
    api.call(ADMIN, "POST", "/api/v1/queue/reorder", json={"task_ids": ["video_1"]})
    assert _operations(api) == [
        ("pause_queue", "/api/v1/queue/pause", {}, "ok"),
        ("change_optimization", "/api/v1/system/optimization", quantization, "ok"),
        ("change_mode", "/api/v1/system/generation-mode", {"mode": "mock"}, "ok"),
        ("clear_queue", "/api/v1/queue/clear", {"jobs": 0}, "ok"),
        ("delete_lora", "/api/v1/lora/unknown", {}, "HTTP 404"),
        ("reorder_queue", "/api/v1/queue/reorder", {"jobs": ["video_1"]}, "ok"),
    ]
    assert {(entry["actor"], entry["key_id"]) for entry in _log(api)} == {(ADMIN, api.keys[ADMIN].split("_")[1])}
    assert api.keys[ADMIN].split("_")[2] not in json.dumps(_log(api))


def test_an_uploaded_lora_is_recorded_by_its_name(api: KeyedApi, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write_lora(tmp_path_factory.mktemp("lora") / "mine.safetensors")
    answer = api.call(ADMIN, "POST", "/api/v1/lora/upload", files={"file": (path.name, path.read_bytes())})
    assert answer.status_code == 200, answer.text
    assert _operations(api) == [("upload_lora", "/api/v1/lora/upload", {"lora": "mine"}, "ok")]


@pytest.mark.parametrize(
    ("method", "path", "action", "result"),
    [
        ("POST", "/api/v1/queue/{id}/cancel", "cancel_task", "ok"),
        ("DELETE", "/api/v1/queue/{id}", "delete_task", "ok"),
        ("DELETE", "/v1/videos/{id}", "delete_video", "ok"),
        ("POST", "/api/v1/queue/{id}/retry", "retry_task", "HTTP 409"),
    ],
)
def test_what_an_administrator_does_to_jobs_of_others_is_recorded(
    api: KeyedApi, method: str, path: str, action: str, result: str
) -> None:
    job = api.submit(ALICE, prompt=_MARKER)
    own = api.submit(ADMIN, prompt=_MARKER)
    api.call(ADMIN, method, path.format(id=own))
    api.call(ADMIN, method, path.format(id="video_unknown"))
    api.call(ADMIN, method, path.format(id=job))
    assert _operations(api) == [(action, path.format(id=job), {"owner": ALICE}, result)]
    assert _MARKER not in json.dumps(_log(api))


def test_a_cancelled_batch_of_others_is_recorded(api: KeyedApi) -> None:
    body = {"prompt": _MARKER, "num_outputs": 2}
    batch = api.call(ALICE, "POST", "/api/v1/generation/submit", json=body).json()["batch_id"]
    assert api.call(ADMIN, "POST", f"/api/v1/batches/{batch}/cancel").status_code == 200
    assert [entry["details"] for entry in _log(api)] == [{"owner": ALICE}]


def test_a_job_of_others_that_a_tool_cancels_is_recorded(api: KeyedApi) -> None:
    jobs = [api.submit(ALICE), api.submit(ADMIN)]
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    for job in jobs:
        params = {"name": "cancel_video", "arguments": {"video_id": job}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        assert api.call(ADMIN, "POST", "/mcp", json=body, headers=headers).status_code == 200
    assert _operations(api) == [("cancel_video", jobs[0], {"owner": ALICE}, "ok")]


def test_keys_are_recorded_once_and_failures_with_their_status(api: KeyedApi) -> None:
    key = api.call(ADMIN, "POST", "/api/v1/keys", json={"owner": "carol", "scopes": ["read"]}).json()["id"]
    assert api.call(ADMIN, "POST", f"/api/v1/keys/{key}/revoke").status_code == 200
    assert api.call(ADMIN, "POST", f"/api/v1/keys/{key}/rotate").status_code == 409
    api.call(ADMIN, "GET", "/api/v1/keys")
    assert [(entry["action"], entry["actor"], entry["result"]) for entry in _log(api)] == [
        ("create_key", ADMIN, "ok"),
        ("revoke_key", ADMIN, "ok"),
        ("rotate_key", ADMIN, "HTTP 409"),
    ]


def test_an_administrator_who_disconnects_is_recorded(api: KeyedApi) -> None:
    """Ray Serve cancels the task of a request whose client is gone, while the handler's thread completes it."""
    store, started = api.services.store, asyncio.Event()

    async def handle(scope: Any, _receive: Any, _send: Any) -> None:
        scope["state"]["audited"] = Entry(action="pause_queue", target="/api/v1/queue/pause", details={})
        started.set()
        await asyncio.Event().wait()

    async def disconnect() -> None:
        caller = Caller(owner=ADMIN, scopes=frozenset([Scope.ADMIN]), key_id="0123456789abcdef")
        call: Any = Auditing(handle, Audit(store))({"type": "http", "state": {"caller": caller}}, None, None)  # type: ignore[arg-type]
        task = asyncio.ensure_future(call)
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(disconnect())
    assert [(entry["action"], entry["actor"], entry["result"]) for entry in _log(api)] == [
        ("pause_queue", ADMIN, "cancelled")
    ]


def test_what_other_keys_do_is_not_recorded_and_they_cannot_read_the_log(api: KeyedApi) -> None:
    job = api.submit(ALICE)
    api.call(ALICE, "POST", f"/api/v1/queue/{job}/cancel")
    api.call(ALICE, "POST", "/api/v1/queue/pause")
    api.call(BOB, "POST", "/api/v1/queue/clear")
    for name in (ALICE, BOB):
        check_rejection(api.call(name, "GET", "/api/v1/audit"), 403, "scope_missing")
    assert _log(api) == []


def test_the_log_is_read_in_pages(api: KeyedApi) -> None:
    for _ in range(3):
        api.call(ADMIN, "POST", "/api/v1/queue/pause")
    first = api.call(ADMIN, "GET", "/api/v1/audit?limit=2").json()
    assert (len(first["actions"]), first["has_more"]) == (2, True)
    before = first["actions"][-1]["number"]
    rest = api.call(ADMIN, "GET", f"/api/v1/audit?limit=100&before={before}").json()
    assert (rest["actions"][0]["action"], rest["has_more"]) == ("pause_queue", False)
    assert rest["actions"][0]["number"] < before
