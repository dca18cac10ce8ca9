"""Inputs that requests name by the URL of another server."""

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.network import addresses, connecting
from serve_app.api.services import Services
from tests.http_api import open_api
from tests.pictures import png
from tests.receiver import Receiver, receiving
from tests.rejections import check_rejection

_SUBMIT, _VIDEOS, _ESTIMATE = "/api/v1/generation/submit", "/v1/videos", "/api/v1/generation/estimate"
_PROMPT = {"prompt": "a cat"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A server with a picture, whose address 127.0.0.1 counts as public, and no other one."""

    def is_public(address: IPv4Address | IPv6Address) -> bool:
        return address == ip_address("127.0.0.1")

    monkeypatch.setattr(addresses, "is_public", is_public)
    monkeypatch.setattr(connecting, "is_public", is_public)
    with receiving() as running:
        running.content = png()
        yield running


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[TestClient]:
    """A client of an API that downloads inputs."""
    with open_api(tmp_path, fetch_urls=True, max_upload_mb=0.1) as client:
        yield client


def _image_of(client: TestClient, answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    task = client.get(f"/api/v1/generation/{body.get('task_id') or body['id']}").json()
    return str(task["image_path"])


@pytest.mark.parametrize("path", [_SUBMIT, _VIDEOS])
def test_an_input_is_downloaded_and_stored_like_an_upload(fetching: TestClient, server: Receiver, path: str) -> None:
    upload = fetching.post("/api/v1/uploads", files={"file": png()}).json()["id"]
    bodies: list[dict[str, Any]] = [
        {"image_url": server.url},
        {"image": f" {server.url} "},
        {"input_reference": {"image_url": server.url}},
        {"input_reference": {"image_url": {"url": server.url}}},
        {"inputReference": json.dumps({"image_url": {"url": server.url}})},
        {"extra_body": {"image_url": server.url}},
    ]
    for body in bodies:
        assert upload in _image_of(fetching, fetching.post(path, json=_PROMPT | body)), body
    form = [("prompt", (None, "a cat")), ("input_reference[image_url]", (None, server.url))]
    assert upload in _image_of(fetching, fetching.post(path, files=form))
    assert len(server.requests) == len(bodies) + 1


def test_nothing_is_downloaded_unless_the_operator_allows_it(
    client: TestClient, services: Services, server: Receiver
) -> None:
    for field in ("image", "image_url", "input_reference", "end_image", "video"):
        for path in (_SUBMIT, _VIDEOS, _ESTIMATE):
            error = check_rejection(
                client.post(path, json=_PROMPT | {field: server.url}),
                400,
                "invalid_input_reference",
            )
            assert error["param"] == field
            assert error["message"].startswith(f"{field} can't be read")
            assert "fetch_urls" in error["message"]
            assert "/api/v1/uploads" in error["suggestions"][0]
    assert server.requests == []
    assert services.store.reader.page() == []


def test_a_repeated_request_gets_its_job_after_the_file_has_changed(fetching: TestClient, server: Receiver) -> None:
    def submit(url: str) -> Any:
        return fetching.post(_SUBMIT, json=_PROMPT | {"image_url": url}, headers={"Idempotency-Key": "k"})

    first = submit(server.url)
    server.content = png(color="blue")
    assert submit(server.url).json() == first.json()
    server.status = 404
    assert submit(server.url).json() == first.json()
    assert len(server.requests) == 1
    check_rejection(submit(f"{server.url}/other"), 409, "idempotency_key_reused")


def test_the_content_is_checked_like_an_upload(fetching: TestClient, server: Receiver) -> None:
    server.headers = {"Content-Type": "image/png"}
    for content, code in (
        (b"<svg/>", "invalid_image"),
        (b"", "invalid_image"),
        (b"x" * 100_001, "input_not_downloaded"),
    ):
        server.content = content
        answer = fetching.post(_SUBMIT, json=_PROMPT | {"image_url": server.url})
        assert answer.json()["error"]["param"] == "image_url", answer.text
        check_rejection(answer, 400, code)
    assert fetching.get("/api/v1/queue").json()["total_tasks"] == 0


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::1]", "localhost", "2130706434", "0x7f.2"])
def test_a_url_of_the_services_own_network_is_rejected(fetching: TestClient, server: Receiver, host: str) -> None:
    error = fetching.post(_SUBMIT, json=_PROMPT | {"image_url": f"http://{host}/secret"}).json()["error"]
    assert (error["code"], error["param"]) == ("input_not_downloaded", "image_url")
    assert error["message"].startswith("image_url has the private address")
    server.status, server.headers = 302, {"Location": f"http://{host}/secret"}
    redirected = fetching.post(_SUBMIT, json=_PROMPT | {"image_url": server.url}).json()["error"]
    assert "redirects to a URL that can't be used" in redirected["message"]
    assert host not in redirected["message"]
    assert "secret" not in str([error, redirected])


def test_the_password_in_a_url_is_not_repeated(fetching: TestClient) -> None:
    answer = fetching.post(_SUBMIT, json=_PROMPT | {"image_url": "https://me:hidden@example.com/"})
    assert "a user name or a password" in answer.json()["error"]["message"]
    assert "hidden" not in answer.text
