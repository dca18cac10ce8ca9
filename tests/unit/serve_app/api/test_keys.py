"""API keys on every route: which requests are let in, and with which scopes."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy import text
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from deployments.jobs.api_keys import Scope
from deployments.jobs.store import JobStore
from serve_app.api.access.authentication import PUBLIC
from serve_app.api.access.callers import find_scope
from serve_app.api.agents.access import SCOPES
from tests.http_api import make_bare_api, serving_api
from tests.jobs import make_job
from tests.keys import ADMIN, ALICE, READER, WRITER, KeyedApi, open_keyed_api
from tests.service import wait_until
from wan22_bridge.types import Progress, Stage

_APP = make_bare_api(needs_keys=True)
_ROUTES: list[RouteContext] = list(iter_route_contexts(_APP.routes))
_OPERATIONS = [
    (method, str(route.path_format), find_scope(route))
    for route in _ROUTES
    for method in sorted(route.methods or ())
    if find_scope(route) is not None
] + [("POST", "/mcp", None)]
_WRONG_KEYS = ["", "none", "wan22_", f"wan22_{'0' * 16}_{'0' * 64}", "Bearer x", "é"]

each_operation = pytest.mark.parametrize(
    ("method", "path", "scope"), _OPERATIONS, ids=[f"{method} {path}" for method, path, _ in _OPERATIONS]
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path_factory.mktemp("keyed")) as opened:
        yield opened


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedApi]:
    """An API whose database a test may change."""
    with open_keyed_api(tmp_path_factory.mktemp("fresh"), cors_origins=["https://studio.example"]) as opened:
        yield opened


def test_every_route_declares_a_scope_unless_it_is_public() -> None:
    undeclared = {str(route.path_format) for route in _ROUTES if find_scope(route) is None}
    assert {path for path in undeclared if not PUBLIC.fullmatch(path)} == {"/mcp"}
    assert [path for _, path, _ in _OPERATIONS if PUBLIC.fullmatch(path)] == []
    assert len(_OPERATIONS) > 50


def test_every_tool_of_the_mcp_server_declares_a_scope(api: KeyedApi) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    tools = _call_mcp(api, ALICE, body)["tools"]
    assert {tool["name"] for tool in tools} == set(SCOPES)


@each_operation
def test_a_request_without_a_valid_key_gets_the_same_401(
    method: str, path: str, scope: Scope | None, api: KeyedApi
) -> None:
    ended = api.services.store.keys.create(ALICE, list(Scope), lifetime_seconds=-1)[1]
    revoked, text_of_revoked = api.services.store.keys.create(ALICE, list(Scope))
    api.services.store.keys.revoke(revoked.id)
    changed = api.keys[ADMIN][:-1] + ("0" if api.keys[ADMIN][-1] != "0" else "1")
    json_body: dict[str, Any] = {"content-type": "application/json"}
    answers = [api.client.request(method, path, headers=json_body, content=b"{not json")]
    for key in (*_WRONG_KEYS, ended, text_of_revoked, changed):
        for header in ({"authorization": f"Bearer {key}".encode()}, {"x-api-key": key.encode()}):
            answers.append(api.client.request(method, path, headers=json_body | header, content=b"{not json"))
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    error = answers[0].json()["error"]
    assert (error["type"], error["code"], error["can_retry"]) == ("authentication", "invalid_api_key", False)


@each_operation
def test_a_key_that_lacks_the_scope_gets_403(method: str, path: str, scope: Scope | None, api: KeyedApi) -> None:
    lacking = {Scope.READ: [WRITER], Scope.SUBMIT: [READER], Scope.ADMIN: [ALICE, READER, WRITER]}
    for name in lacking[scope] if scope else ():
        answer = api.call(name, method, path)
        assert answer.status_code == 403, answer.text
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("permission", "scope_missing")
        assert f"the scope {scope}" in error["message"]


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json", "/healthz", "/healthz/"])
def test_public_paths_need_no_key(path: str, api: KeyedApi) -> None:
    assert api.client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/docs/nothing", "/api/v1/nothing", "/healthz2", "//healthz"])
def test_other_paths_need_a_key_even_if_they_do_not_exist(path: str, api: KeyedApi) -> None:
    assert api.client.get(f"http://testserver{path}").status_code == 401
    assert api.call(ALICE, "GET", f"http://testserver{path}").status_code == 404


@pytest.mark.parametrize(
    "form",
    [
        {"authorization": "Bearer {}"},
        {"authorization": "bearer {}"},
        {"authorization": "BEARER   {}"},
        {"x-api-key": "{}"},
        {"x-api-key": "{}", "authorization": "Basic eDp5"},
        {"x-api-key": "{}", "authorization": "Bearer of-a-proxy"},
    ],
    ids=str,
)
def test_a_key_is_read_from_both_headers(form: dict[str, str], api: KeyedApi) -> None:
    headers = {name: value.format(api.keys[ALICE]) for name, value in form.items()}
    assert api.client.get("/api/v1/queue", headers=headers).status_code == 200


def test_the_document_declares_the_keys_and_the_scopes(api: KeyedApi) -> None:
    document = api.client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["components"]["securitySchemes"]["header"]["name"] == "X-API-Key"
    for method, path, scope in _OPERATIONS[:-1]:
        operation = document["paths"][path][method.lower()]
        assert operation["security"] == [{"bearer": [scope]}, {"header": [scope]}]
        assert {"401", "403"} <= operation["responses"].keys()
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_a_service_without_keys_ignores_them_and_does_not_document_them(client: TestClient) -> None:
    answer = client.get("/api/v1/queue", headers={"authorization": "Bearer none"})
    assert answer.status_code == 200
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]


@pytest.mark.parametrize("path", ["/ws", "/api/v1/ws"])
@pytest.mark.parametrize("key", ["", "wan22_0", None])
def test_a_socket_without_a_valid_key_is_refused(path: str, key: str | None, api: KeyedApi) -> None:
    headers = {"authorization": f"Bearer {api.keys[WRITER] if key is None else key}"}
    with pytest.raises(Exception) as refused, api.client.websocket_connect(path, headers=headers):  # noqa: PT011
        pass
    if key is None:
        assert isinstance(refused.value, WebSocketDisconnect)
        assert (refused.value.code, refused.value.reason) == (1008, "The API key lacks the scope read.")
    else:
        assert getattr(refused.value, "status_code", None) == 401


def test_a_browser_sends_the_key_of_a_socket_as_a_subprotocol(api: KeyedApi) -> None:
    offered = ["wan22", f"wan22-key.{api.keys[ALICE]}"]
    with api.client.websocket_connect("/ws", subprotocols=offered) as socket:
        assert socket.accepted_subprotocol == "wan22"
        assert socket.receive_json()["type"] == "connection_established"
    with api.client.websocket_connect("/ws", headers=api.headers(ALICE)) as socket:
        assert socket.accepted_subprotocol is None


def test_a_revoked_key_is_rejected_and_its_socket_is_closed(fresh: KeyedApi) -> None:
    key_id = fresh.keys[ALICE].split("_")[1]
    with fresh.client.websocket_connect("/ws", headers=fresh.headers(ALICE)) as socket:
        fresh.services.store.keys.revoke(key_id)
        wait_until(lambda: fresh.call(ALICE, "GET", "/api/v1/queue").status_code == 401)
        with pytest.raises(WebSocketDisconnect) as closed:
            _ping_until_closed(socket)
        assert closed.value.code == 1008


def test_a_key_that_ends_before_the_response_gets_401(fresh: KeyedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like the response to `/v1/videos/sync`, which comes minutes after the request."""
    for module in ("authentication", "ring"):
        monkeypatch.setattr(f"serve_app.api.access.{module}.REFRESH_SECONDS", 0)
    key_id = fresh.keys[ALICE].split("_")[1]
    read = fresh.services.store.queue.page

    def revoke(**given: Any) -> Any:
        fresh.services.store.keys.revoke(key_id)
        return read(**given)

    monkeypatch.setattr(type(fresh.services.store.queue), "page", lambda _, **given: revoke(**given))
    answer = fresh.call(ALICE, "GET", "/api/v1/queue")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_stream_of_a_revoked_key_breaks_off(tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
    key, told = store.keys.create(ALICE, [Scope.READ])
    job = store.runner.claim(store.writer.submit(make_job(owner=ALICE)).id, lease_seconds=600)
    assert job is not None
    path, headers = f"/api/v1/generation/{job.id}/events", {"authorization": f"Bearer {told}"}
    with (
        serving_api(tmp_path, allow_anonymous=False) as url,
        httpx.stream("GET", url + path, headers=headers) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith("id: ")
        store.keys.revoke(key.id)

        def report_progress() -> None:
            store.runner.record_progress(job.id, job.fencing_token, Progress(stage=Stage.GENERATING))
            next(lines)

        with pytest.raises(httpx.RemoteProtocolError):
            wait_until(report_progress)
    store.database.close()


def _ping_until_closed(socket: WebSocketTestSession) -> None:
    """Makes a socket send messages, because it checks its key when it sends one."""
    while True:
        socket.send_json({"type": "ping"})
        socket.receive_json()


def test_a_new_key_is_accepted_and_its_use_is_recorded(fresh: KeyedApi) -> None:
    fresh.call(ALICE, "GET", "/api/v1/queue")  # the replica has read the keys
    key, text_of_key = fresh.services.store.keys.create("carol", [Scope.READ])
    headers = {"x-api-key": text_of_key}
    wait_until(lambda: fresh.client.get("/api/v1/queue", headers=headers).status_code == 200)
    stored = {item.id: item for item in fresh.services.store.keys.all()}
    assert (stored[key.id].last_used_at or 0) >= key.created_at
    assert stored[fresh.keys[ADMIN].split("_")[1]].last_used_at is None


def test_nobody_gets_in_while_the_keys_cannot_be_read(fresh: KeyedApi) -> None:
    with fresh.services.store.database.writing() as connection:
        connection.execute(text("ALTER TABLE api_keys RENAME TO gone"))
    answer = fresh.call(ADMIN, "GET", "/api/v1/queue")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")


def test_a_browser_on_another_origin_may_ask_first_and_read_the_401(fresh: KeyedApi) -> None:
    asked = {"origin": "https://studio.example", "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "authorization"
    assert fresh.client.options("/api/v1/generation/submit", headers=asked).status_code == 200
    answer = fresh.client.get("/api/v1/queue", headers={"origin": "https://studio.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, "https://studio.example")


def test_what_an_administrator_changes_is_logged(fresh: KeyedApi, caplog: pytest.LogCaptureFixture) -> None:
    job_id = fresh.submit(ALICE)
    with caplog.at_level(logging.INFO, "ray.serve"):
        assert fresh.call(ADMIN, "POST", "/api/v1/queue/pause").status_code == 200
        assert fresh.call(ADMIN, "POST", f"/api/v1/queue/{job_id}/cancel").status_code == 200
        fresh.call(ADMIN, "GET", "/api/v1/queue")
        fresh.call(ALICE, "POST", "/api/v1/queue/clear")
        fresh.call(ALICE, "POST", "/api/v1/queue/resume")
    found = [record for record in caplog.records if getattr(record, "action", "") == "admin_action"]
    assert [(vars(record)["operation"], vars(record)["target"]) for record in found] == [
        ("pause_queue", "/api/v1/queue/pause"),
        ("cancel_task", f"/api/v1/queue/{job_id}/cancel"),
    ]
    assert {(vars(record)["owner"], vars(record)["key_id"]) for record in found} == {
        (ADMIN, fresh.keys[ADMIN].split("_")[1])
    }
    assert fresh.keys[ADMIN] not in caplog.text


@pytest.mark.parametrize("tool", sorted(SCOPES))
def test_a_tool_rejects_a_key_that_lacks_its_scope(tool: str, api: KeyedApi) -> None:
    name = READER if SCOPES[tool] is Scope.SUBMIT else WRITER
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    result = _call_mcp(api, name, body)
    assert result["isError"] is True
    assert result["structuredContent"]["error"]["code"] == "scope_missing"


def _call_mcp(api: KeyedApi, name: str, body: dict[str, Any]) -> dict[str, Any]:
    accepted = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    answer = api.call(name, "POST", "/mcp", json=body, headers=accepted)
    assert answer.status_code == 200, answer.text
    data = next(line for line in answer.text.splitlines() if line.startswith("data: {"))
    result: dict[str, Any] = json.loads(data.removeprefix("data: "))["result"]
    return result
