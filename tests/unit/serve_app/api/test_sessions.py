"""Sessions of the web page: a cookie in place of a key, and what pages of others try with it."""

import asyncio
import json
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from deployments.jobs.api_keys import Scope
from serve_app.api.access.callers import find_scope
from serve_app.api.access.links import LinkSigner
from serve_app.api.access.sessions import LIFETIME_SECONDS, RENEWAL_SECONDS
from serve_app.api.application import make_api
from tests.http_api import make_bare_api, open_api
from tests.keys import ADMIN, ALICE, BOB, READER, KeyedApi, open_keyed_api
from tests.rejections import check_rejection
from tests.service import wait_until

_SESSION, _QUEUE, _COOKIE = "/api/v1/session", "/api/v1/queue", "wan22_session"
_OWN = "http://testserver"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path, trusted_proxies=["10.0.0.0/8"]) as opened:
        yield opened


@pytest.fixture
def open_to_all_origins(tmp_path: Path) -> Iterator[KeyedApi]:
    with open_keyed_api(tmp_path, cors_origins=["*"]) as opened:
        yield opened


def _sign_in(api: KeyedApi, name: str, **headers: str) -> Any:
    return api.client.post(_SESSION, json={"key": api.keys[name]}, headers={"origin": _OWN} | headers)


def _key_id(api: KeyedApi, name: str) -> str:
    return api.keys[name].split("_")[1]


def _read_cookie(answer: Any) -> Any:
    [morsel] = SimpleCookie(answer.headers["set-cookie"]).values()
    return morsel


def test_a_session_takes_the_place_of_a_key(api: KeyedApi) -> None:
    assert api.client.get(_QUEUE).status_code == 401
    answer = _sign_in(api, ALICE)
    assert answer.json() == {
        "needs_key": True,
        "key_id": _key_id(api, ALICE),
        "owner": ALICE,
        "scopes": ["read", "submit"],
    }
    assert api.client.get(_SESSION).json() == answer.json()
    task_id = api.client.post("/api/v1/generation/submit", json={"prompt": "a cat"}).json()["task_id"]
    assert [task["id"] for task in api.call(ALICE, "GET", _QUEUE).json()["tasks"]] == [task_id]
    assert api.call(BOB, "GET", _QUEUE).json()["tasks"] == [], "a key comes before a session"
    with api.client.websocket_connect("/api/v1/ws", headers={"origin": _OWN}) as socket:
        assert socket.receive_json()["type"] == "connection_established"


def test_a_session_has_the_scopes_of_its_key(api: KeyedApi) -> None:
    _sign_in(api, READER)
    check_rejection(api.client.post("/api/v1/generation/submit", json={"prompt": "a cat"}), 403, "scope_missing")
    assert api.client.get(_SESSION).json()["scopes"] == ["read"]
    assert _sign_in(api, ADMIN).json()["scopes"] == ["read", "submit", "admin"]


def test_the_cookie_holds_no_key_and_only_this_services_page_sends_it(api: KeyedApi) -> None:
    answer = _sign_in(api, ALICE)
    cookie = _read_cookie(answer)
    assert (cookie.key, cookie["path"], cookie["samesite"], cookie["httponly"]) == (_COOKIE, "/", "Strict", True)
    assert (cookie["secure"], cookie["max-age"], cookie["expires"], cookie["domain"]) == ("", "", "", "")
    assert api.keys[ALICE].split("_")[2] not in answer.headers["set-cookie"]
    assert answer.headers["cache-control"] == "no-store"


def test_the_cookie_belongs_to_the_prefix_and_the_scheme_of_a_reverse_proxy(tmp_path: Path) -> None:
    with open_keyed_api(tmp_path, trusted_proxies=["10.0.0.0/8"], root_path="/wan") as api:
        api.client._transport.client = ("10.1.2.3", 50_000)  # type: ignore[attr-defined]
        forwarded = {
            "x-forwarded-proto": "https",
            "x-forwarded-host": "videos.example",
            "origin": "https://videos.example",
        }
        cookie = _read_cookie(_sign_in(api, ALICE, **forwarded))
    assert (cookie["path"], cookie["secure"]) == ("/wan", True)


def test_services_on_two_ports_of_a_host_have_cookies_of_their_own(api: KeyedApi) -> None:
    cookie = _read_cookie(_sign_in(api, ALICE, host="127.0.0.1:8001", origin="http://127.0.0.1:8001"))
    assert cookie.key == "wan22_session_8001"


def test_signing_out_removes_the_cookie(api: KeyedApi) -> None:
    _sign_in(api, ALICE)
    answer = api.client.delete(_SESSION)
    assert (answer.status_code, answer.json()["owner"], _read_cookie(answer)["max-age"]) == (200, None, "0")
    assert api.client.get(_QUEUE).status_code == 401
    assert api.client.get(_SESSION).json() == {"needs_key": True, "key_id": None, "owner": None, "scopes": []}


@pytest.mark.parametrize("key", ["", "none", f"wan22_{'0' * 16}_{'0' * 64}", "é"])
def test_a_wrong_key_begins_no_session(key: str, api: KeyedApi) -> None:
    answer = api.client.post(_SESSION, json={"key": key})
    check_rejection(answer, 401, "invalid_api_key")
    assert "set-cookie" not in answer.headers


def test_a_sign_in_has_a_small_body_and_takes_no_place(api: KeyedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.api.http.slow_clients._INCOMPLETE_BODIES", 0)
    app = make_api(api.services)
    body = json.dumps({"key": api.keys[ALICE]}).encode()
    received = list[int]()

    def begin(*parts: bytes, declared: int | None = None) -> int:
        return asyncio.run(_post(app, parts, received, declared))

    assert begin(body[:5], body[5:]) == 200
    assert begin(bytes(3000), bytes(3000)) == 413
    received.clear()
    assert begin(body[:5], body[5:], declared=4097) == 413
    assert received == [], "a body that is too large is not read"


async def _post(app: Any, parts: tuple[bytes, ...], received: list[int], declared: int | None) -> int:
    """Sends the parts of a body to the route for sessions, and returns the status of the response."""
    messages = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
    statuses = list[int]()

    async def receive() -> Any:
        received.append(len(messages))
        return messages.pop(0)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    if declared is not None:
        headers.append((b"content-length", str(declared).encode()))
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": _SESSION, "raw_path": _SESSION.encode()}
    scope |= {"query_string": b"", "headers": headers, "client": ("192.0.2.1", 1), "scheme": "http"}
    await app(scope, receive, send)
    return statuses[0]


def test_a_revoked_key_ends_its_sessions_and_their_sockets(api: KeyedApi) -> None:
    _sign_in(api, ALICE)
    with api.client.websocket_connect("/api/v1/ws", headers={"origin": _OWN}) as socket:
        api.services.store.keys.revoke(_key_id(api, ALICE))
        wait_until(lambda: api.client.get(_QUEUE).status_code == 401)
        with pytest.raises(WebSocketDisconnect) as closed:
            _ping_until_closed(socket)
    assert closed.value.code == 1008


def _ping_until_closed(socket: WebSocketTestSession) -> None:
    while True:
        socket.send_json({"type": "ping"})
        socket.receive_json()


def test_a_changed_cookie_is_no_session(api: KeyedApi) -> None:
    cookie = _read_cookie(_sign_in(api, ALICE)).value
    key_id, expires, signature = cookie.split(".")
    link = LinkSigner(api.services.store.settings).sign("/api/v1/outputs/x/video", 60)[0].rpartition("=")[2]
    changed = [
        f"{_key_id(api, ADMIN)}.{expires}.{signature}",
        f"{key_id}.{int(expires) + 1}.{signature}",
        f"{key_id}.{expires}.{signature[:-1]}{'0' if signature[-1] != '0' else '1'}",
        f"{key_id}.{expires}.{link}",
        f"{key_id}.{expires}.",
        f"{key_id}.{expires}",
        cookie + ".",
        "",
        api.keys[ALICE],
    ]
    api.client.cookies.clear()
    found = {api.client.get(_QUEUE, headers={"cookie": f"{_COOKIE}={value}"}).status_code for value in changed}
    assert found == {401}
    assert api.client.get(_QUEUE, headers={"cookie": f"{_COOKIE}={cookie}"}).status_code == 200


def test_a_page_behind_a_proxy_that_does_not_say_so_has_a_secure_cookie(
    api: KeyedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookie = _read_cookie(_sign_in(api, ALICE, host="videos.example", origin="https://videos.example"))
    assert cookie["secure"] is True
    headers = {"host": "videos.example", "cookie": f"{_COOKIE}={cookie.value}"}
    begin = time.time()
    monkeypatch.setattr("serve_app.api.access.sessions.time.time", lambda: begin + RENEWAL_SECONDS + 60)
    renewed = _read_cookie(api.client.get(_SESSION, headers=headers))
    assert renewed["secure"] is True
    assert api.client.get(_QUEUE, headers=headers | {"cookie": f"{_COOKIE}={renewed.value}"}).status_code == 200
    unmarked = cookie.value.replace("s.", ".")
    assert api.client.get(_QUEUE, headers=headers | {"cookie": f"{_COOKIE}={unmarked}"}).status_code == 401


def test_only_the_page_renews_a_session_and_it_expires_unused(api: KeyedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _read_cookie(_sign_in(api, ALICE)).value
    assert "set-cookie" not in api.client.get(_QUEUE).headers
    begin = time.time()
    monkeypatch.setattr("serve_app.api.access.sessions.time.time", lambda: begin + RENEWAL_SECONDS + 60)
    assert "set-cookie" not in api.client.get(_QUEUE).headers, "a late response would undo a sign-out"
    renewed = _read_cookie(api.client.get(_SESSION)).value
    assert int(renewed.split(".")[1]) > int(first.split(".")[1])
    monkeypatch.setattr("serve_app.api.access.sessions.time.time", lambda: begin + LIFETIME_SECONDS + 60)
    assert api.client.get(_QUEUE).status_code == 200
    api.client.cookies.clear()
    assert api.client.get(_QUEUE, headers={"cookie": f"{_COOKIE}={first}"}).status_code == 401


_FOREIGN = [
    {"origin": "http://testserver:9999"},
    {"origin": "https://sibling.testserver"},
    {"origin": "null"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
]
"""Headers of requests of other pages. Browsers send SameSite cookies for other ports and for sibling domains."""


@pytest.mark.parametrize("headers", _FOREIGN, ids=str)
def test_other_pages_cannot_use_a_session_even_where_all_origins_may_call(
    headers: dict[str, str], open_to_all_origins: KeyedApi
) -> None:
    api = open_to_all_origins
    _sign_in(api, ADMIN)
    form = {"content-type": "text/plain"}
    assert api.client.get(_QUEUE, headers=headers).status_code == 401
    assert api.client.post("/api/v1/queue/pause", headers=headers | form).status_code == 401
    assert api.client.post("/api/v1/keys", headers=headers, json={"owner": "evil"}).status_code == 401
    with pytest.raises(Exception) as refused, api.client.websocket_connect("/api/v1/ws", headers=headers):  # noqa: PT011
        pass
    assert getattr(refused.value, "status_code", None) == 401
    for own in ({"origin": _OWN}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {}):
        assert api.client.get(_QUEUE, headers=own).status_code == 200


@pytest.mark.parametrize("headers", _FOREIGN, ids=str)
def test_other_pages_cannot_sign_a_visitor_in(headers: dict[str, str], open_to_all_origins: KeyedApi) -> None:
    api = open_to_all_origins
    answer = api.client.post(_SESSION, json={"key": api.keys[ALICE]}, headers=headers)
    check_rejection(answer, 403, "origin_not_allowed")
    assert "set-cookie" not in answer.headers


def test_no_route_changes_anything_with_get() -> None:
    """Links and pictures in other pages make the browser send GET, without the header Origin."""
    found = {
        str(route.path_format): find_scope(route)
        for route in iter_route_contexts(make_bare_api(needs_keys=True).routes)
        if {"GET", "HEAD"} & set(route.methods or ())
    }
    assert [path for path, scope in found.items() if scope is Scope.SUBMIT] == []
    admin = {path for path, scope in found.items() if scope is Scope.ADMIN}
    assert admin == {"/api/v1/audit", "/api/v1/keys", "/api/v1/system/dashboard", "/api/v1/webhooks/secret"}


def test_a_service_without_keys_has_no_sessions(tmp_path: Path) -> None:
    with open_api(tmp_path) as client:
        everything = {"needs_key": False, "key_id": None, "owner": None, "scopes": ["read", "submit", "admin"]}
        assert client.get(_SESSION).json() == client.delete(_SESSION).json() == everything
        check_rejection(client.post(_SESSION, json={"key": "wan22_"}), 409, "keys_off")
