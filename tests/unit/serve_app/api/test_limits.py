"""Limits on clients, on each way into the service."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from deployments.jobs.api_keys import Scope
from serve_app.api.application import make_api
from serve_app.settings import parse_settings
from tests.http_api import open_services, serving_api
from tests.jobs import make_job
from tests.keys import ADMIN, ALICE, BOB, READER, KeyedApi, open_keyed_api
from tests.loras import write_lora
from tests.pictures import png
from tests.rejections import Response, check_rejection
from tests.service import wait_until
from wan22_bridge.types import Progress, Stage

_SUBMIT, _QUEUE, _UPLOAD, _USAGE = "/api/v1/generation/submit", "/api/v1/queue", "/api/v1/uploads", "/api/v1/usage"
_JOB = {"prompt": "a cat"}
_NEAR, _FAR = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limited")


@contextmanager
def _keyed(folder: Path, **limits: Any) -> Iterator[KeyedApi]:
    with open_keyed_api(folder, limits=limits) as api:
        yield api


@contextmanager
def _anonymous(folder: Path, *addresses: str, args: dict[str, Any] | None = None, **limits: Any) -> Iterator[Any]:
    """Yields a client of one service for each address, or only one."""
    settings = parse_settings({"data_dir": folder, "limits": limits} | (args or {})).with_absolute_paths()
    app = make_api(open_services(settings))
    first, *others = (TestClient(app, client=(address, 50_000)) for address in addresses or [_NEAR])
    with first:
        yield (first, *others) if addresses else first


def _check_limit(answer: Response, name: str) -> dict[str, Any]:
    """Checks that a response names a limit and says when to try again."""
    error = check_rejection(answer, 429, "limit_exceeded")
    assert (error["type"], error["param"], error["can_retry"]) == ("rate_limit", name, True)
    assert f"The limit {name} is " in error["message"]
    assert int(answer.headers["retry-after"]) > 0  # type: ignore[attr-defined]
    return error


def _call_tool(client: Any, name: str, arguments: dict[str, Any], **headers: str) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    accepted = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    answer = client.post("/mcp", json=body, headers=accepted | headers)
    data = next(line for line in answer.text.splitlines() if line.startswith("data: {"))
    result: dict[str, Any] = json.loads(data.removeprefix("data: "))["result"]
    return result


def test_the_requests_of_an_address_are_limited(folder: Path) -> None:
    with _anonymous(folder, _NEAR, _FAR, requests_per_minute=3) as (near, far):
        assert [near.get(_QUEUE).status_code for _ in range(3)] == [200] * 3
        error = _check_limit(near.get(_QUEUE), "requests_per_minute")
        assert error["message"] == ("The limit requests_per_minute is 3: this client sends more. Try again in 20 s.")
        _check_limit(near.get("/openapi.json"), "requests_per_minute")
        with pytest.raises(WebSocketDenialResponse) as refused, near.websocket_connect("/ws"):
            pass
        assert refused.value.status_code == 429
        assert far.get(_QUEUE).status_code == 200
        assert {near.get(path).status_code for path in ("/healthz", "/healthz/") for _ in range(5)} == {200}


def test_a_client_that_polls_too_fast_can_still_cancel_and_delete(folder: Path) -> None:
    with _anonymous(folder, requests_per_minute=3) as client:
        ids = [client.post(_SUBMIT, json=_JOB).json()["task_id"] for _ in range(2)]
        client.get(_QUEUE)
        _check_limit(client.get(_QUEUE), "requests_per_minute")
        assert client.post(f"/api/v1/queue/{ids[0]}/cancel").status_code == 200
        assert client.delete(f"/v1/videos/{ids[0]}").status_code == 200
        assert client.post(f"/api/v1/queue/{ids[1]}/cancel").status_code == 200
        _check_limit(client.delete(f"/v1/videos/{ids[1]}"), "requests_per_minute")


def test_the_requests_of_a_key_are_limited_from_all_addresses(folder: Path) -> None:
    with _keyed(folder, requests_per_minute=2) as api:
        far = TestClient(api.client.app, client=(_FAR, 1))
        assert api.call(ALICE, "GET", _QUEUE).status_code == 200
        assert far.get(_QUEUE, headers=api.headers(ALICE)).status_code == 200
        _check_limit(api.call(ALICE, "GET", _QUEUE), "requests_per_minute")
        _check_limit(far.get(_QUEUE, headers=api.headers(ALICE)), "requests_per_minute")
        assert far.get(_QUEUE, headers=api.headers(BOB)).status_code == 200


def test_the_keys_of_one_address_share_its_requests_except_those_of_administrators(folder: Path) -> None:
    with _keyed(folder, requests_per_minute=2) as api:
        assert [api.call(name, "GET", _QUEUE).status_code for name in (ALICE, BOB)] == [200, 200]
        _check_limit(api.call(READER, "GET", _QUEUE), "requests_per_minute")
        assert [api.call(ADMIN, "GET", _QUEUE).status_code for _ in range(5)] == [200] * 5
        assert api.client.get(_QUEUE).status_code == 401


def test_callers_without_a_key_cannot_use_up_what_a_key_may_do(folder: Path) -> None:
    with _keyed(folder, requests_per_minute=2) as api:
        assert [api.client.get("/docs").status_code for _ in range(2)] == [200, 200]
        _check_limit(api.client.get("/docs"), "requests_per_minute")
        _check_limit(api.client.get("/openapi.json"), "requests_per_minute")
        assert api.call(ALICE, "GET", _QUEUE).status_code == 200


def test_a_key_has_limits_of_its_own(folder: Path) -> None:
    with _keyed(folder, requests_per_minute=2, pending_jobs=3) as api:
        keys = api.services.store.keys
        own = {
            "more": keys.create("carol", [Scope.READ], limits={"requests_per_minute": 4})[1],
            "none": keys.create("dave", [Scope.READ, Scope.SUBMIT], limits={"requests_per_minute": None})[1],
            "admin": keys.create("erin", [Scope.ADMIN], limits={"pending_jobs": 1})[1],
        }
        headers = {name: {"x-api-key": key} for name, key in own.items()}
        for name in (ALICE, BOB):
            api.call(name, "GET", _QUEUE)
        assert [api.client.get(_QUEUE, headers=headers["more"]).status_code for _ in range(5)] == [200] * 4 + [429]
        assert [api.client.get(_QUEUE, headers=headers["none"]).status_code for _ in range(5)] == [200] * 5
        assert api.client.post(_SUBMIT, json=_JOB, headers=headers["admin"]).status_code == 200
        _check_limit(api.client.post(_SUBMIT, json=_JOB, headers=headers["admin"]), "pending_jobs")
        limits = api.client.get(_USAGE, headers=headers["none"]).json()["limits"]
        assert (limits["requests_per_minute"], limits["pending_jobs"]) == (None, 3)


@pytest.mark.parametrize(
    ("addresses", "are_one"),
    [
        (("2001:db8:0:1::1", "2001:db8:0:1:ffff::9"), True),
        (("2001:db8:0:1::1", "2001:db8:0:2::1"), False),
        (("::ffff:192.0.2.1", "192.0.2.1"), True),
        (("::ffff:192.0.2.1", "::ffff:192.0.2.2"), False),
        (("fe80::1%eth0", "fe80::2%eth1"), True),
        (("not an address", "not an address"), True),
    ],
)
def test_a_network_of_ipv6_counts_as_one_client(addresses: tuple[str, str], are_one: bool, folder: Path) -> None:
    with _anonymous(folder, *addresses, requests_per_minute=1) as (first, second):
        assert first.get(_QUEUE).status_code == 200
        assert second.get(_QUEUE).status_code == (429 if are_one else 200)


@pytest.mark.parametrize("address_of_proxy", [_NEAR, f"::ffff:{_NEAR}"])
def test_the_clients_of_a_trusted_proxy_are_counted_each_for_itself(address_of_proxy: str, folder: Path) -> None:
    proxy: dict[str, Any] = {"args": {"trusted_proxies": [_NEAR]}, "requests_per_minute": 1}
    with _anonymous(folder, address_of_proxy, _FAR, **proxy) as (trusted, other):
        for address, status in (("203.0.113.1", 200), ("203.0.113.2", 200), ("203.0.113.2", 429)):
            assert trusted.get(_QUEUE, headers={"x-forwarded-for": address}).status_code == status
        for status in (200, 429):
            assert other.get(_QUEUE, headers={"x-forwarded-for": f"203.0.113.{status}"}).status_code == status


def test_the_replicas_of_the_ingress_share_a_limit(folder: Path) -> None:
    with _anonymous(folder, args={"ingress_replicas": 3}, requests_per_minute=7) as client:
        assert [client.get(_QUEUE).status_code for _ in range(3)] == [200] * 3
        error = _check_limit(client.get(_QUEUE), "requests_per_minute")
        assert "is 7, over 3 processes: " in error["message"]


def test_the_sockets_of_a_client_are_limited(folder: Path) -> None:
    with _anonymous(folder, _NEAR, _FAR, open_sockets=1) as (near, far):
        with near.websocket_connect("/ws") as socket:
            socket.receive_json()
            with pytest.raises(WebSocketDenialResponse) as refused, near.websocket_connect("/api/v1/ws"):
                pass
            _check_limit(refused.value, "open_sockets")
            with far.websocket_connect("/ws") as other:
                assert other.receive_json()["type"] == "connection_established"
        with near.websocket_connect("/ws") as socket:
            assert socket.receive_json()["type"] == "connection_established"


def test_the_messages_to_a_socket_count_as_requests(folder: Path) -> None:
    with _anonymous(folder, requests_per_minute=3) as client, client.websocket_connect("/ws") as socket:
        for _ in range(3):
            socket.send_json({"type": "ping"})
        with pytest.raises(WebSocketDisconnect) as closed:
            _ = [socket.receive_json() for _ in range(1000)]
        assert closed.value.code == 1013
        assert "The limit requests_per_minute is 3" in closed.value.reason


def test_the_open_responses_of_a_client_are_limited(tmp_path: Path) -> None:
    with serving_api(tmp_path, limits={"open_streams": 1}) as url, httpx.Client(base_url=url) as client:
        task_id = client.post(_SUBMIT, json=_JOB).json()["task_id"]
        events = f"/api/v1/generation/{task_id}/events"

        for path in (events, "/mcp"):
            with client.stream("GET", path, headers={"accept": "text/event-stream"}) as response:
                assert response.status_code == 200
                with httpx.Client(base_url=url) as other:
                    for answer in (
                        other.get(events),
                        other.post("/v1/videos/sync?timeout_seconds=0.01", json=_JOB),
                        other.get("/mcp", headers={"accept": "text/event-stream"}),
                    ):
                        _check_limit(answer, "open_streams")
                    waited = _call_tool(other, "wait_for_video", {"video_id": task_id, "timeout_seconds": 0})
                    assert waited["structuredContent"]["error"]["param"] == "open_streams"
            wait_until(lambda: client.post("/v1/videos/sync?timeout_seconds=0.01", json=_JOB).status_code == 504)
        assert client.get(_QUEUE).json()["pending_tasks"] == 3


def _submit_in_each_way(api: KeyedApi, name: str, image: bytes | None = None) -> dict[str, Any]:
    """Submits a job by each API, and returns the responses; that of the MCP server as an error's object."""
    given: dict[str, Any] = {"json": _JOB} if image is None else {"data": _JOB, "files": {"image": ("a.png", image)}}
    of_openai = {"json": _JOB} if image is None else {"data": _JOB, "files": {"input_reference": ("a.png", image)}}
    arguments = dict(_JOB) | ({} if image is None else {"image": base64.b64encode(image).decode()})
    tool = _call_tool(api.client, "create_video", arguments, **api.headers(name))
    assert tool["isError"] is True, tool
    return {
        "native": api.call(name, "POST", _SUBMIT, **given),
        "openai": api.call(name, "POST", "/v1/videos", **of_openai),
        "sync": api.call(name, "POST", "/v1/videos/sync", **of_openai),
        "mcp": tool["structuredContent"]["error"],
    }


def test_every_way_to_submit_has_the_limit_of_pending_jobs(folder: Path) -> None:
    with _keyed(folder, pending_jobs=2) as api:
        first = api.submit(ALICE)
        _check_limit(api.call(ALICE, "POST", _SUBMIT, json=_JOB | {"num_outputs": 2}), "pending_jobs")
        api.submit(ALICE)
        done = api.complete(BOB)
        answers = _submit_in_each_way(api, ALICE)
        assert (answers["mcp"]["code"], answers["mcp"]["param"]) == ("limit_exceeded", "pending_jobs")
        assert "Try again in 60 s" in answers["mcp"]["message"]
        for way in ("native", "openai", "sync"):
            _check_limit(answers[way], "pending_jobs")
            assert answers[way].headers["retry-after"] == "60"
        for _ in range(2):
            api.submit(BOB)
        remix = api.call(BOB, "POST", f"/v1/videos/{done.id}/remix", json={"prompt": "a dog"})
        _check_limit(remix, "pending_jobs")
        extension = api.call(
            BOB, "POST", "/v1/videos/extensions", json=_JOB | {"video": {"id": done.id}, "model": "i2v"}
        )
        _check_limit(extension, "pending_jobs")
        assert api.call(ALICE, "GET", _QUEUE).json()["pending_tasks"] == 2
        assert api.call(ALICE, "POST", f"/api/v1/queue/{first}/cancel").status_code == 200
        api.submit(ALICE)
        _check_limit(api.call(ALICE, "POST", f"/api/v1/queue/{first}/retry"), "pending_jobs")
        for _ in range(4):
            api.submit(ADMIN)


def test_an_address_has_the_limit_of_pending_jobs_where_keys_are_off(folder: Path) -> None:
    with _anonymous(folder, _NEAR, _FAR, pending_jobs=1) as (near, far):
        assert near.post(_SUBMIT, json=_JOB).status_code == 200
        _check_limit(near.post(_SUBMIT, json=_JOB), "pending_jobs")
        assert far.post(_SUBMIT, json=_JOB).status_code == 200


def test_a_repeated_request_is_answered_at_the_limits(folder: Path) -> None:
    body: dict[str, Any] = {"data": _JOB, "files": {"image": ("a.png", png())}}
    with _keyed(folder, pending_jobs=1, uploads_per_day=1) as api:
        first, again = (api.call(ALICE, "POST", _SUBMIT, **body, headers={"idempotency-key": "key"}) for _ in range(2))
        assert (first.status_code, again.json()["task_id"]) == (200, first.json()["task_id"])
        other = api.call(ALICE, "POST", _SUBMIT, **body, headers={"idempotency-key": "other"})
        _check_limit(other, "pending_jobs")
        assert api.call(ALICE, "GET", _USAGE).json()["days"][0]["uploads"] == 1


def test_a_full_queue_rejects_the_jobs_of_everyone(folder: Path) -> None:
    with _keyed(folder, pending_jobs_overall=2) as api:
        api.submit(ALICE)
        api.submit(BOB)
        for name in (ALICE, ADMIN):
            answer = api.call(name, "POST", _SUBMIT, json=_JOB)
            error = check_rejection(answer, 503, "queue_full")
            assert (error["type"], error["can_retry"], answer.headers["retry-after"]) == ("capacity", True, "60")
            assert "the limit pending_jobs_overall is 2, 2 jobs are pending" in error["message"]
        assert api.call(ALICE, "GET", _QUEUE).status_code == 200


def test_every_way_to_send_a_file_has_the_limits_of_uploads(folder: Path) -> None:
    image = png()
    with _keyed(folder, uploads_per_day=2) as api:
        for _ in range(2):
            upload = api.call(ALICE, "POST", _UPLOAD, files={"file": ("a.png", image)})
            assert upload.status_code == 200
        answers = _submit_in_each_way(api, ALICE, png(color="blue"))
        assert answers.pop("mcp")["param"] == "uploads_per_day"
        answers["upload"] = api.call(ALICE, "POST", _UPLOAD, files={"file": ("a.png", image)})
        for answer in answers.values():
            error = _check_limit(answer, "uploads_per_day")
            assert "2 files are used today. The count begins again at 20" in error["message"]
            assert answer.headers["x-should-retry"] == "false" or int(answer.headers["retry-after"]) <= 60
        by_id = _JOB | {"image_path": upload.json()["id"]}
        assert api.call(ALICE, "POST", _SUBMIT, json=by_id).status_code == 200
        invalid = api.call(BOB, "POST", _UPLOAD, files={"file": ("a.png", b"no image")})
        assert invalid.status_code == 400
        assert [api.call(BOB, "POST", _UPLOAD, files={"file": ("a.png", image)}).status_code for _ in range(3)] == [
            200,
            200,
            429,
        ]
        assert len([path for path in (folder / "inputs").rglob("*") if path.is_file()]) == 1


def test_the_bytes_of_uploads_are_limited(folder: Path) -> None:
    image = png()
    with _keyed(folder, upload_mb_per_day=1.5 * len(image) / 1e6) as api:
        assert api.call(ALICE, "POST", _UPLOAD, files={"file": ("a.png", image)}).status_code == 200
        _check_limit(api.call(ALICE, "POST", _UPLOAD, files={"file": ("a.png", image)}), "upload_mb_per_day")
        day = api.call(ALICE, "GET", _USAGE).json()["days"][0]
        assert (day["uploads"], day["upload_bytes"]) == (1, len(image))


def test_uploads_of_loras_are_limited_where_keys_are_off(folder: Path, tmp_path: Path) -> None:
    lora = write_lora(tmp_path / "a.safetensors").read_bytes()
    with _anonymous(folder, _NEAR, _FAR, uploads_per_day=1) as (near, far):
        files = {"file": ("a.safetensors", lora)}
        assert near.post("/api/v1/lora/upload", files={"file": ("a.safetensors", b"none")}).status_code == 400
        assert near.post("/api/v1/lora/upload", files=files).status_code == 200
        _check_limit(near.post("/api/v1/lora/upload", files=files, data={"name": "b"}), "uploads_per_day")
        assert [item["name"] for item in near.get("/api/v1/lora/list").json()["loras"]].count("b") == 0
        assert far.post("/api/v1/lora/upload", files=files, data={"name": "b"}).status_code == 200


@pytest.mark.parametrize("path", [_SUBMIT, "/api/v1/generation/estimate", "/v1/videos"])
def test_the_size_and_the_length_of_videos_are_limited(path: str, folder: Path) -> None:
    small = _JOB | {"resolution": "64x64", "num_frames": 5}
    with _keyed(folder, pixels_per_frame=64 * 64, frames_per_video=5) as api:
        assert api.call(ALICE, "POST", path, json=small).status_code in (200, 201)
        error = check_rejection(
            api.call(ALICE, "POST", path, json=small | {"resolution": "64x96"}), 400, "resolution_too_large"
        )
        assert "the limit pixels_per_frame is 4096" in error["message"]
        error = check_rejection(api.call(ALICE, "POST", path, json=small | {"num_frames": 9}), 400, "too_many_frames")
        assert "the limit frames_per_video is 5" in error["message"]
        large = small | {"resolution": "64x96", "num_frames": 9}
        assert api.call(ADMIN, "POST", path, json=large).status_code in (200, 201)


def test_gpu_seconds_are_shown_and_limited(folder: Path) -> None:
    with _keyed(folder, gpu_seconds_per_day=0.001) as api:
        store = api.services.store
        job = store.runner.claim(api.submit(ALICE), lease_seconds=60)
        assert job is not None
        store.runner.record_progress(job.id, job.fencing_token, Progress(stage=Stage.GENERATING))
        wait_until(lambda: bool(store.runner.renew(job.id, job.fencing_token, 60) and store.usage.read()))
        wait_until(lambda: store.usage.read()[0].gpu_seconds > 0.001, every=0.01)
        error = _check_limit(api.call(ALICE, "POST", _SUBMIT, json=_JOB), "gpu_seconds_per_day")
        assert "The count begins again at 20" in error["message"]
        own = api.call(ALICE, "GET", _USAGE).json()
        assert own["resets_at"][:19] in error["message"]
        assert (own["client"], own["pending_jobs"], own["days"][0]["client"]) == (ALICE, 0, ALICE)
        assert own["days"][0]["gpu_seconds"] > 0
        assert own["limits"]["gpu_seconds_per_day"] == 0.001
        assert api.call(BOB, "GET", _USAGE).json()["days"] == []
        everyone = api.call(ADMIN, "GET", _USAGE).json()
        assert [day["client"] for day in everyone["days"]] == [ALICE]
        assert set(everyone["limits"].values()) == {None}
        assert api.call(ALICE, "GET", f"/api/v1/generation/{job.id}").status_code == 200
        assert api.call(ALICE, "POST", f"/api/v1/queue/{job.id}/cancel").status_code == 200
        api.submit(BOB)


def test_an_address_sees_its_own_use_where_keys_are_off(folder: Path) -> None:
    with _anonymous(folder, _NEAR, _FAR) as (near, far):
        near.post(_UPLOAD, files={"file": ("a.png", png())})
        own = near.get(_USAGE, params={"days": 2}).json()
        assert (own["client"], own["days"][0]["uploads"]) == (f"address:{_NEAR}", 1)
        assert far.get(_USAGE).json()["days"] == []
        check_rejection(far.get(_USAGE, params={"days": 91}), 400, "invalid_value")


def test_a_home_user_meets_no_limit_by_default(folder: Path) -> None:
    with _anonymous(folder) as client:
        store = client.app.state.services.store
        store.writer.submit_batch([make_job(client=f"address:{_NEAR}")] * 300)
        assert {client.get("/v1/models/tiny-t2v").status_code for _ in range(100)} == {200}
        assert client.post(_SUBMIT, json=_JOB).status_code == 200
