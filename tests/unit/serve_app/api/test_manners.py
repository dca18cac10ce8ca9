"""Manners that all routes share: HEAD, trailing slashes, methods, other origins, reverse proxies and conditions."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serve_app.api.application import make_api
from serve_app.api.http.conditions import is_expected, is_known, status_for
from serve_app.api.http.proxies import ReverseProxies
from serve_app.api.schemas.links import video_url
from serve_app.settings import Settings, parse_settings
from tests.http_api import open_services
from tests.rejections import check_rejection
from wan22_bridge.errors import ConfigurationError

_PROXY, _STRANGER = "10.1.2.3", "192.0.2.7"
_FORWARDED = {
    "x-forwarded-proto": "https",
    "x-forwarded-host": "videos.example",
    "x-forwarded-prefix": "/wan22/",
    "x-forwarded-for": "203.0.113.9",
}
_ETAG, _MODIFIED = '"abc"', "Sun, 01 Mar 2026 12:00:00 GMT"


@contextmanager
def _api(folder: Path, *, address: str = _STRANGER, **args: Any) -> Iterator[TestClient]:
    """Yields a client of an application without generators."""
    settings = Settings(data_dir=folder / "data", **args).with_absolute_paths()
    with TestClient(make_api(open_services(settings)), client=(address, 50_000), follow_redirects=False) as client:
        yield client


def _submit(client: TestClient) -> str:
    answer = client.post("/api/v1/generation/submit", json={"prompt": "a cat", "model_type": "t2v"})
    return str(answer.json()["task_id"])


def test_head_has_the_status_and_the_headers_of_get_without_its_body(tmp_path: Path) -> None:
    with _api(tmp_path) as client:
        task_id = _submit(client)
        for path in ("/healthz", "/v1/models", "/openapi.json", f"/api/v1/generation/{task_id}", "/api/v1/nothing"):
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (get.status_code, b""), path
            assert head.headers["content-length"] == get.headers["content-length"], path


def test_head_of_a_stream_ends_at_once(tmp_path: Path) -> None:
    with _api(tmp_path) as client:
        head = client.head(f"/api/v1/generation/{_submit(client)}/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")


def test_a_trailing_slash_is_served_without_a_redirect(tmp_path: Path) -> None:
    with _api(tmp_path) as client:
        assert client.get("/v1/models/").json() == client.get("/v1/models").json()
        assert client.post("/api/v1/generation/submit/", json={"prompt": "a cat"}).status_code == 200
        with client.websocket_connect("/ws/") as socket:
            assert socket.receive_json()["type"] == "connection_established"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/videos", "GET, HEAD, POST"),
        ("POST", "/v1/videos/video_1", "DELETE, GET, HEAD"),
        ("GET", "/v1/videos/edits", "POST"),
        ("DELETE", "/api/v1/generation/submit", "POST"),
        ("PUT", "/api/v1/outputs/video_1", "DELETE, GET, HEAD, PATCH"),
        ("HEAD", "/api/v1/uploads", "POST"),
    ],
)
def test_a_method_that_a_path_lacks_is_rejected_with_all_that_it_has(
    tmp_path: Path, method: str, path: str, allowed: str
) -> None:
    with _api(tmp_path) as client:
        answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        check_rejection(answer, 405, "method_not_allowed")


def test_pages_of_other_origins_may_call_the_api_only_if_the_settings_list_them(tmp_path: Path) -> None:
    asked = {"origin": "https://studio.example", "access-control-request-method": "DELETE"}
    with _api(tmp_path) as client:
        assert "access-control-allow-origin" not in client.get("/healthz", headers=asked).headers
        check_rejection(client.options("/v1/videos/video_1", headers=asked), 405, "method_not_allowed")
    with _api(tmp_path, cors_origins=["https://studio.example"]) as client:
        preflight = client.options("/v1/videos/video_1", headers=asked)
        assert preflight.status_code == 200
        assert "DELETE" in preflight.headers["access-control-allow-methods"]
        missing = client.get("/v1/videos/video_1", headers=asked)
        assert missing.status_code == 404
        assert missing.headers["access-control-allow-origin"] == "https://studio.example"
        assert "openai-poll-after-ms" in missing.headers["access-control-expose-headers"]
        stranger = client.get("/healthz", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in stranger.headers


def test_links_and_redirects_follow_the_headers_of_a_trusted_proxy(tmp_path: Path) -> None:
    with _api(tmp_path, address=_PROXY, trusted_proxies=["10.0.0.0/8"], allowed_hosts=["videos.example"]) as client:
        assert "/wan22/openapi.json" in client.get("/docs/", headers=_FORWARDED).text
        assert client.get("/openapi.json", headers=_FORWARDED).json()["servers"] == [{"url": "/wan22"}]
        odd = _FORWARDED | {"x-forwarded-prefix": "//evil.example", "x-forwarded-host": "a b"}
        assert "evil.example" not in client.get("/docs", headers=odd).text


def test_a_socket_of_ipv6_shows_a_proxy_of_ipv4(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"], "allowed_hosts": ["videos.example"]}
    with _api(tmp_path, address=f"::ffff:{_PROXY}", **settings) as client:
        assert "/wan22/openapi.json" in client.get("/docs", headers=_FORWARDED).text


def test_the_forwarded_headers_of_other_clients_are_ignored(tmp_path: Path) -> None:
    with _api(tmp_path, address=_STRANGER, trusted_proxies=["10.0.0.0/8"]) as client:
        assert "/wan22/" not in client.get("/docs", headers=_FORWARDED).text
        assert "servers" not in client.get("/openapi.json", headers=_FORWARDED).json()


def test_the_root_path_begins_redirects_and_links(tmp_path: Path) -> None:
    with _api(tmp_path, root_path="/studio") as client:
        assert client.get("/v1/models").status_code == 200
        assert client.get("/docs").text.count("/studio/") >= 3


def test_links_to_videos_begin_with_the_prefix() -> None:
    seen: list[str] = []

    async def application(_scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(video_url("video_1"))

    async def request() -> None:
        app = ReverseProxies(application, trusted=[], root_path="/studio")
        await app({"type": "http", "path": "/", "headers": []}, None, None)  # type: ignore[arg-type]

    asyncio.run(request())
    assert seen == ["/studio/api/v1/outputs/video_1/video"]
    assert video_url("video_1") == "/api/v1/outputs/video_1/video"


@pytest.mark.parametrize(
    "args",
    [{"cors_origins": ["studio.example"]}, {"root_path": "studio/"}, {"trusted_proxies": ["proxy"]}],
    ids=["origin", "prefix", "proxy"],
)
def test_unusable_addresses_in_the_settings_are_rejected(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(args))):
        parse_settings(args)


@pytest.mark.parametrize(
    ("header", "known"),
    [('"abc"', True), ('W/"abc"', True), ('"x", W/"abc" ,"y"', True), ("*", True), ('"x"', False), ("", False)],
)
def test_if_none_match_compares_weakly(header: str, known: bool) -> None:
    assert is_known(_ETAG, header) is known


@pytest.mark.parametrize(
    ("header", "expected"), [(None, True), ('"abc"', True), ("*", True), ('"x", "abc"', True), ('W/"abc"', False)]
)
def test_if_match_compares_strongly(header: str | None, expected: bool) -> None:
    assert is_expected(_ETAG, header) is expected


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"if-match": '"x"', "if-none-match": _ETAG}, 412),
        ({"if-none-match": '"x"', "if-modified-since": _MODIFIED}, None),
        ({"if-modified-since": _MODIFIED}, 304),
        ({"if-modified-since": "yesterday"}, None),
    ],
)
def test_conditions_are_evaluated_in_the_order_of_rfc_9110(headers: dict[str, str], status: int | None) -> None:
    assert status_for(headers, etag=_ETAG, last_modified=_MODIFIED) == status
