"""Health checks, documentation and the list of models."""

import json
import re

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.service import PROXY, Service


def test_the_service_reports_that_it_is_up_and_ready(service: Service) -> None:
    with service.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}


def test_the_routes_are_documented(service: Service) -> None:
    with service.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
        page = client.get("/docs")
        assert page.status_code == 200
        parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(parts) >= 3
        for part in parts:
            assert client.get(part).status_code == 200, "the page must load everything from this server"
        assert '<div id="root">' in client.get("/").text
    submit = paths["/api/v1/generation/submit"]["post"]["requestBody"]["content"]
    assert "image" in submit["multipart/form-data"]["schema"]["properties"]
    assert submit["application/json"]["schema"]["allOf"][0]["anyOf"][0] == {"required": ["prompt"]}
    assert "/v1/videos/{video_id}/content" in paths


def test_the_models_report_their_inputs(service: Service) -> None:
    with service.client() as client:
        models = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert list(models) == ["tiny-t2v", "tiny-i2v", "tiny-ti2v"]
    assert models["tiny-i2v"]["image"] == "required"
    assert models["tiny-i2v"]["end_image"] is True


def test_a_client_cannot_choose_its_address(service: Service) -> None:
    """HAProxy tells the service the address of each client in a header, of which a client may send one as well."""
    forwarded = {"x-forwarded-prefix": "/wan22", "x-wan22-client": PROXY}
    with httpx.Client(base_url=service.url, headers=forwarded, timeout=60) as client:
        assert "/wan22/" not in client.get("/docs").text


def test_a_page_of_another_site_gets_no_socket_and_changes_nothing(service: Service) -> None:
    origin = "https://evil.example"
    with service.client() as client:
        answer = client.post("/api/v1/queue/pause", headers={"origin": origin})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
        rebound = client.get("/v1/videos", headers={"host": "evil.example"})
        assert (rebound.status_code, rebound.json()["error"]["code"]) == (421, "host_not_allowed")
        assert client.get("/api/v1/queue").json()["paused"] is False
    url = service.url.replace("http", "ws") + "/ws"
    with pytest.raises(InvalidStatus, match="403"), connect(url, origin=Origin(origin)):
        pass
    with connect(url, origin=Origin(service.url)) as socket:
        assert json.loads(socket.recv(10))["type"] == "connection_established"


def test_only_a_trusted_proxy_sets_the_prefix_of_links(service: Service) -> None:
    forwarded = {
        "x-forwarded-proto": "https",
        "x-forwarded-host": "videos.example",
        "x-forwarded-prefix": "/wan22",
        "x-forwarded-for": "203.0.113.9",
    }
    for address, prefix in ((PROXY, "/wan22"), ("127.0.0.1", "")):
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(base_url=service.url, transport=transport, headers=forwarded, timeout=60) as client:
            assert f'"{prefix}/openapi.json"' in client.get("/docs").text.replace("'", '"')
            servers = [{"url": prefix}] if prefix else None
            assert client.get("/openapi.json").json().get("servers") == servers
            assert client.get("/v1/models").is_success
