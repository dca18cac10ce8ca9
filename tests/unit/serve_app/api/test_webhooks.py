"""Webhooks over the API: receivers of requests, listings, replays and the secret. Nothing is delivered here."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.jobs.deliveries import Delivery
from deployments.webhooks.signing import is_secret
from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import parse_settings
from tests.http_api import open_api, open_services
from tests.rejections import check_rejection
from tests.videos import mp4

_URL = "https://example.com/hook/hidden?token=hidden"
_SUBMIT = "/api/v1/generation/submit"
_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def _submit(client: TestClient, **fields: Any) -> str:
    answer = client.post(_SUBMIT, json={"prompt": "a cat", "webhook_url": _URL} | fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["task_id"])


def _cancel(client: TestClient, **fields: Any) -> str:
    """Ends a job and returns its id."""
    task_id = _submit(client, **fields)
    assert client.post(f"/api/v1/queue/{task_id}/cancel").status_code == 200
    return task_id


def _complete(services: Services, task_id: str) -> None:
    """Ends a job as its generator would, without a video."""
    job = services.store.runner.claim(task_id, lease_seconds=10)
    assert job is not None
    result = {"generation_time_seconds": 1.0, "parameters_used": {}}
    services.store.runner.complete(task_id, 1, output={"folder": "x", "video": "video.mp4"}, result=result)


def _claim(services: Services) -> Delivery:
    [claimed] = services.store.deliveries.claim(trusted=False, limit=9, busy={}, limit_per_receiver=9)
    return claimed


def _list(client: TestClient, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/webhooks", params=params)
    assert answer.status_code == 200, answer.text
    assert "hidden" not in answer.text
    found: list[dict[str, Any]] = answer.json()["webhooks"]
    return found


def test_a_webhook_holds_the_job_as_the_api_describes_it(client: TestClient, services: Services) -> None:
    task_id = _submit(client, metadata={"order": "7"})
    _complete(services, task_id)
    task = client.get(f"/api/v1/generation/{task_id}")
    assert "hidden" not in task.text
    [listed] = _list(client)
    expected = {"type": "video.completed", "task_id": task_id, "url": "https://example.com/…", "attempts": 0}
    expected |= {"status": "pending", "last_status": None, "last_error": None, "delivered_at": None}
    assert {name: listed[name] for name in expected} == expected
    shown = client.get(f"/api/v1/webhooks/{listed['id']}").json()
    payload = shown.pop("payload")
    assert shown == listed
    assert payload == {"type": "video.completed", "timestamp": task.json()["completed_at"], "data": task.json()}
    assert list(payload) == ["type", "timestamp", "data"]
    assert _claim(services).url == _URL


def test_paths_in_a_payload_have_the_proxys_prefix(tmp_path: Path) -> None:
    settings = parse_settings({"data_dir": tmp_path, "root_path": "/wan22"}).with_absolute_paths()
    services = open_services(settings)
    with TestClient(make_api(services)) as client:
        task_id = _submit(client)
        _complete(services, task_id)
        task = client.get(f"/api/v1/generation/{task_id}").json()
        payload = json.loads(_claim(services).payload)
    assert payload["data"]["output_path"] == task["output_path"] == f"/wan22/api/v1/outputs/{task_id}/video"


@pytest.mark.parametrize("name", ["webhook_url", "webhookUrl"])
@pytest.mark.parametrize("path", [_SUBMIT, "/v1/videos"])
@pytest.mark.parametrize("kind", ["json", "data"])
def test_both_apis_accept_a_receiver(client: TestClient, services: Services, path: str, kind: str, name: str) -> None:
    sent: dict[str, Any] = {kind: {"prompt": "a cat", name: _URL}}
    answer = client.post(path, **sent)
    assert answer.status_code == 200, answer.text
    assert "example.com" not in answer.text
    [job] = services.store.reader.page()
    assert job.webhook_url == _URL
    assert "webhook_url" not in job.params.to_dict()


@pytest.mark.parametrize("nothing", [None, "", "null", "undefined"])
def test_a_receiver_may_be_left_out(client: TestClient, services: Services, nothing: str | None) -> None:
    _submit(client, webhook_url=nothing)
    assert services.store.reader.page()[0].webhook_url is None


def test_edits_extensions_and_remixes_accept_a_receiver(client: TestClient, services: Services) -> None:
    for path in ("edits", "extensions"):
        fields = {"prompt": "in snow", "webhook_url": _URL, "model": "tiny-ti2v"}
        answer = client.post(f"/v1/videos/{path}", data=fields, files={"video": ("in.mp4", mp4(), "video/mp4")})
        assert answer.status_code == 200, answer.text
        assert services.store.reader.page()[0].webhook_url == _URL
    source = _submit(client)
    _complete(services, source)
    for url, expected in ((_URL, _URL), ("", None), (None, None)):
        answer = client.post(f"/v1/videos/{source}/remix", json={"prompt": "in rain", "webhook_url": url})
        assert answer.status_code == 200, answer.text
        assert services.store.reader.page()[0].webhook_url == expected
    bad = client.post(f"/v1/videos/{source}/remix", json={"prompt": "in rain", "webhook_url": "http://10.0.0.1"})
    assert check_rejection(bad, 400, "webhook_url_invalid")["param"] == "webhook_url"


def test_a_receiver_is_part_of_an_idempotent_request(client: TestClient, services: Services) -> None:
    source = _submit(client)
    _complete(services, source)
    for path, key in ((_SUBMIT, "k"), (f"/v1/videos/{source}/remix", "l")):
        headers = {"idempotency-key": key}
        bodies = [{"prompt": "a dog", "webhook_url": _URL}, {"prompt": "a dog", "webhook_url": _URL + "2"}]
        first, again, other = (client.post(path, json=bodies[index], headers=headers) for index in (0, 0, 1))
        assert first.json() == again.json()
        check_rejection(other, 409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://127.0.0.1/", "webhook_url_invalid"),
        ("http://0x7f000001/", "webhook_url_invalid"),
        ("http://[::ffff:127.0.0.1]/", "webhook_url_invalid"),
        ("http://localhost/", "webhook_url_invalid"),
        ("ftp://example.com/", "webhook_url_invalid"),
        ("https://me:hidden@example.com/", "webhook_url_invalid"),
        ("https://example.com/" + "x" * 2048, "webhook_url_invalid"),
        ("x" * 3_000_000, "webhook_url_invalid"),
        ("https://example.com/\x00", "webhook_url_invalid"),
        (5, "invalid_value"),
        (True, "invalid_value"),
        ([_URL], "invalid_value"),
        ({"url": _URL}, "invalid_value"),
    ],
)
@pytest.mark.parametrize("path", [_SUBMIT, "/api/v1/generation/estimate", "/v1/videos"])
def test_a_receiver_that_is_not_allowed_is_rejected(
    client: TestClient, services: Services, path: str, url: Any, code: str
) -> None:
    body = json.dumps({"prompt": "a cat", "webhookUrl": url})
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    error = check_rejection(answer, 400, code)
    assert error["param"] == "webhookUrl"
    assert len(answer.text) < 1500
    assert "me:hidden" not in answer.text
    assert services.store.reader.page() == []


def test_the_operator_can_allow_private_receivers(tmp_path: Path) -> None:
    with open_api(tmp_path, webhooks={"allow_private": True}) as client:
        _submit(client, webhook_url="http://192.168.0.7:8080/")
        check_rejection(
            client.post(_SUBMIT, json={"prompt": "a cat", "webhook_url": "ftp://x"}), 400, "webhook_url_invalid"
        )


def test_the_services_receivers_get_the_end_of_each_job(tmp_path: Path) -> None:
    urls = ["http://10.0.0.1/a?token=hidden", "https://example.com/b"]
    with open_api(tmp_path, webhooks={"urls": urls}) as client:
        _cancel(client, webhook_url=None)
        assert [item["url"] for item in _list(client)] == ["https://example.com/…", "http://10.0.0.1/…"]
        assert "example.com" not in client.get("/api/v1/queue").text


def test_webhooks_are_listed_by_pages_states_and_jobs(client: TestClient, services: Services) -> None:
    tasks = [_cancel(client) for _ in range(3)]
    newest, middle, oldest = _list(client)
    assert [item["task_id"] for item in (oldest, middle, newest)] == tasks
    answer = client.get("/api/v1/webhooks", params={"limit": 2}).json()
    assert (answer["webhooks"], answer["has_more"]) == ([newest, middle], True)
    answer = client.get("/api/v1/webhooks", params={"limit": 2, "after": middle["id"]}).json()
    assert (answer["webhooks"], answer["has_more"]) == ([oldest], False)
    assert _list(client, task_id=tasks[1]) == [middle]
    assert _list(client, task_id="video_none") == _list(client, task_id="\x00") == _list(client, status="failed") == []
    assert len(_list(client, status="pending")) == 3
    services.jobs.delete(tasks[0])
    assert len(_list(client)) == 3


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"status": "completed"}, "status"),
        ({"status": ""}, "status"),
    ],
)
def test_an_invalid_listing_names_the_parameter(client: TestClient, params: dict[str, Any], param: str) -> None:
    answer = client.get("/api/v1/webhooks", params=params)
    assert check_rejection(answer, 400, "invalid_value")["param"] == param


def test_an_unknown_webhook_is_not_found(client: TestClient) -> None:
    task_id = _cancel(client)
    for unknown in ("msg_none", task_id, "%00", "x" * 10_000):
        check_rejection(client.get(f"/api/v1/webhooks/{unknown}"), 404, "webhook_not_found")
        check_rejection(client.post(f"/api/v1/webhooks/{unknown}/replay"), 404, "webhook_not_found")
    answer = client.get("/api/v1/webhooks", params={"after": "msg_none"})
    assert check_rejection(answer, 404, "webhook_not_found")["param"] == "after"


def test_an_ended_webhook_is_replayed_and_a_pending_one_stays(client: TestClient, services: Services) -> None:
    _cancel(client)
    [before] = _list(client)
    path = f"/api/v1/webhooks/{before['id']}/replay"
    assert client.post(path).json() == before
    services.store.deliveries.record_failure(_claim(services), status=410, error="It is gone.", delay_seconds=None)
    [failed] = _list(client)
    assert (failed["status"], failed["last_status"], failed["last_error"]) == ("failed", 410, "It is gone.")
    assert failed["next_attempt_at"] is None
    replayed = client.post(path).json()
    assert (replayed["id"], replayed["status"], replayed["attempts"]) == (before["id"], "pending", 0)
    assert client.post(path).json() == replayed
    services.store.deliveries.record_success(_claim(services), 200)
    [delivered] = _list(client, status="delivered")
    assert delivered["delivered_at"] is not None


def test_the_secret_is_made_once_and_shown_by_its_route_only(client: TestClient) -> None:
    secret = client.get("/api/v1/webhooks/secret").json()["secret"]
    assert is_secret(secret)
    assert client.get("/api/v1/webhooks/secret").json() == {"secret": secret}
    task_id = _cancel(client)
    for path in ("/api/v1/webhooks", f"/api/v1/generation/{task_id}", "/api/v1/queue", "/openapi.json"):
        assert secret not in client.get(path).text


def test_a_configured_secret_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_api(tmp_path, webhooks={"secret_env": "HOOK_SECRET"}) as client:
        check_rejection(client.get("/api/v1/webhooks/secret"), 503, "webhook_secret_missing")
        monkeypatch.setenv("HOOK_SECRET", _SECRET)
        assert client.get("/api/v1/webhooks/secret").json() == {"secret": _SECRET}
