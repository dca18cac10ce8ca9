"""What pages of other sites try on a service that their visitor's browser can reach, and what the service answers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from serve_app.api.application import make_api
from serve_app.settings import Settings, parse_settings
from tests.http_api import open_services
from tests.rejections import check_rejection
from wan22_bridge.errors import ConfigurationError

_PAUSE, _EVIL = "/api/v1/queue/pause", "https://evil.example"


@contextmanager
def _api(folder: Path, *, address: str = "127.0.0.1", **args: Any) -> Iterator[TestClient]:
    services = open_services(Settings(data_dir=folder / "data", **args).with_absolute_paths())
    with TestClient(make_api(services), base_url="http://127.0.0.1:8000", client=(address, 50_000)) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "evil.example.",
        "localhost.evil.example",
        "[:",
        ":8000",
        "a:99999",
        "a:x",
    ],
)
def test_rebinding_a_host_name_to_the_service_is_rejected(tmp_path: Path, host: str) -> None:
    with _api(tmp_path) as client:
        for method, path in (("GET", "/v1/videos"), ("POST", _PAUSE), ("GET", "/docs")):
            error = check_rejection(client.request(method, path, headers={"host": host}), 421, "host_not_allowed")
            assert repr(host) in error["message"]
        assert client.get("/api/v1/queue").json()["paused"] is False
        with pytest.raises(WebSocketDisconnect) as rejected, client.websocket_connect("/ws", headers={"host": host}):
            pass
    assert rejected.value.code == 1008


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8000", "[::1]:8000", "192.168.1.20", "localhost:8000", "wan22", "box.local", socket.gethostname()],
)
def test_names_that_no_other_site_can_have_are_served(tmp_path: Path, host: str) -> None:
    with _api(tmp_path) as client:
        assert client.post(_PAUSE, headers={"host": host}).is_success


def test_other_names_are_served_if_the_settings_list_them(tmp_path: Path) -> None:
    with _api(tmp_path, allowed_hosts=["videos.example"]) as client:
        assert client.post(_PAUSE, headers={"host": "Videos.example:8000"}).is_success
        assert client.post(_PAUSE, headers={"host": "other.example"}).status_code == 421


def test_every_name_is_served_where_keys_are_needed(tmp_path: Path) -> None:
    with _api(tmp_path, allow_anonymous=False) as client:
        assert client.get("/healthz", headers={"host": "videos.example"}).is_success
        check_rejection(client.get("/v1/videos", headers={"host": "videos.example"}), 401, "invalid_api_key")


@pytest.mark.parametrize("host", ["http://a.example", "a.example:80", "*", "", "a..example", 7])
def test_a_wrong_host_in_the_settings_is_rejected(host: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"allowed_hosts\.0"):
        parse_settings({"allowed_hosts": [host]})


@pytest.mark.parametrize(
    "origin",
    [
        _EVIL,
        "http://[",
        "http://y:99999",
        "null",
        "http://127.0.0.1:8001",
        "http://127.0.0.1",
        "http://localhost:8000",
        "127.0.0.1:8000",
        "",
    ],
)
def test_a_page_of_another_origin_changes_nothing(tmp_path: Path, origin: str) -> None:
    with _api(tmp_path) as client:
        for method, path in (
            ("POST", _PAUSE),
            ("DELETE", "/v1/videos/video_1"),
            ("PUT", "/api/v1/system/generation-mode"),
        ):
            error = check_rejection(client.request(method, path, headers={"origin": origin}), 403, "origin_not_allowed")
            assert "cors_origins" in error["suggestions"][0]
        with (
            pytest.raises(WebSocketDisconnect) as rejected,
            client.websocket_connect("/ws", headers={"host": "127.0.0.1:8000", "origin": origin}),
        ):
            pass
        assert rejected.value.code == 1008
        assert client.get("/api/v1/queue").json()["paused"] is False


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("videos.local", "https://videos.local"),
        ("videos.local:443", "https://videos.local"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_pages_of_the_service_itself_may_change_things(tmp_path: Path, host: str, origin: str) -> None:
    with _api(tmp_path) as client:
        assert client.post(_PAUSE, headers={"host": host, "origin": origin}).is_success
        with client.websocket_connect("/ws", headers={"host": host, "origin": origin}) as opened:
            assert opened.receive_json()["type"] == "connection_established"


@pytest.mark.parametrize("origins", [["https://studio.example"], ["*"]])
def test_pages_of_the_listed_origins_may_change_things(tmp_path: Path, origins: list[str]) -> None:
    with _api(tmp_path, cors_origins=origins) as client:
        assert client.post(_PAUSE, headers={"origin": "https://studio.example"}).is_success
        evil = client.post(_PAUSE, headers={"origin": _EVIL})
        assert evil.status_code == (200 if origins == ["*"] else 403)


def test_a_trusted_proxy_forwards_the_hosts_that_the_settings_list(tmp_path: Path) -> None:
    forwarded = {"x-forwarded-host": "videos.example", "origin": "https://videos.example"}
    settings: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"], "allowed_hosts": ["videos.example"]}
    with _api(tmp_path, address="10.1.2.3", **settings) as client:
        assert client.post(_PAUSE, headers=forwarded).is_success
        other = forwarded | {"x-forwarded-host": "evil.example"}
        check_rejection(client.post(_PAUSE, headers=other), 421, "host_not_allowed")
    with _api(tmp_path, address="192.0.2.7", **settings) as client:
        check_rejection(client.post(_PAUSE, headers=forwarded), 403, "origin_not_allowed")


def test_a_rebound_page_that_names_a_forwarded_host_is_rejected(tmp_path: Path) -> None:
    """The browser runs beside the proxy, so that its address is trusted, and a page may send this header."""
    rebound = {"host": "evil.example:8000", "x-forwarded-host": "localhost:8000"}
    with _api(tmp_path, address="127.0.0.1", trusted_proxies=["127.0.0.1"]) as client:
        check_rejection(client.get("/v1/videos", headers=rebound), 421, "host_not_allowed")


@pytest.mark.parametrize("path", ["/api/v1/generation/submit", "/v1/videos", "/api/v1/queue/reorder"])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_without_a_content_type_is_rejected(tmp_path: Path, path: str, in_chunks: bool) -> None:
    body = b'{"prompt": "a cat"}'
    with _api(tmp_path) as client:
        answer = client.post(path, content=iter([body]) if in_chunks else body)
        check_rejection(answer, 400, "unsupported_content_type")
        assert client.get("/v1/videos").json()["data"] == []


def test_every_response_has_security_headers(tmp_path: Path) -> None:
    with _api(tmp_path) as client:
        page, data = client.get("/docs"), client.get("/v1/models")
        rejected, missing = client.post(_PAUSE, headers={"origin": _EVIL}), client.get("/nothing")
    for answer in (page, data, rejected, missing):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "default-src 'none'" in data.headers["content-security-policy"]
