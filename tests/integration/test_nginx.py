"""configs/nginx.conf in front of a running service."""

import json
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection

import pytest
from websockets.sync.client import connect

from tests.nginx import NAME, Nginx, running_nginx
from tests.pictures import png
from tests.service import Service


@pytest.fixture
def nginx(service: Service, tmp_path: Path) -> Iterator[Nginx]:
    """Nginx in front of the shared service."""
    with running_nginx(tmp_path, service.port) as running:
        yield running


def test_links_and_redirects_show_the_name_that_clients_use(nginx: Nginx, service: Service) -> None:
    video = service.finished()["id"]
    with nginx.client() as client:
        link = client.get(f"/api/v1/outputs/{video}/link").json()["url"]
        assert link.startswith(f"https://{NAME}/api/v1/outputs/{video}/video?")
        assert client.get("/").headers["strict-transport-security"] == "max-age=31536000"


def test_ranges_and_entity_tags_work_behind_nginx(nginx: Nginx, service: Service) -> None:
    path = f"/api/v1/outputs/{service.finished()['id']}/video"
    with nginx.client() as client, service.client() as direct:
        whole = client.get(path)
        assert whole.content == direct.get(path).content
        part = client.get(path, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert client.get(path, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
        assert client.head(path).headers["content-length"] == str(len(whole.content))


def test_events_of_a_job_pass_while_it_runs(nginx: Nginx, service: Service) -> None:
    with service.client() as direct:
        direct.post("/api/v1/queue/pause")
        try:
            task = service.submit()
            with nginx.client() as client, client.stream("GET", f"/api/v1/generation/{task}/events") as stream:
                lines = stream.iter_lines()
                assert json.loads(_data(lines, "task"))["status"] == "pending"  # arrives before the stream ends
                direct.post("/api/v1/queue/resume")
                while json.loads(_data(lines, "task_update"))["status"] != "completed":
                    continue
        finally:
            direct.post("/api/v1/queue/resume")


def _data(lines: Iterator[str], kind: str) -> str:
    """Returns the data of the next event of a kind."""
    for line in lines:
        if line == f"event: {kind}":
            return next(lines).removeprefix("data: ")
    raise AssertionError(f"no event {kind}")


def test_a_socket_passes_nginx(nginx: Nginx) -> None:
    connection = create_connection(("127.0.0.1", nginx.port), timeout=30)
    with connect(f"wss://{NAME}/ws", ssl=nginx.context, sock=connection) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "connection_established"
        socket.send('{"type": "ping"}')
        while json.loads(socket.recv(timeout=30))["type"] != "pong":
            continue


def test_an_upload_passes_and_a_larger_one_gets_a_json_error(nginx: Nginx) -> None:
    with nginx.client() as client:
        answer = client.post("/api/v1/uploads", files={"file": ("a.png", png(64, 64), "image/png")})
        assert answer.status_code == 200, answer.text
        large = client.post("/api/v1/uploads", files={"file": ("a.png", bytes(33_600_000), "image/png")})
        assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")


def test_an_address_has_a_limited_number_of_connections(service: Service, tmp_path: Path) -> None:
    with running_nginx(tmp_path, service.port, limit_conn="clients 2") as nginx, service.client() as direct:
        direct.post("/api/v1/queue/pause")
        try:
            path = f"/api/v1/generation/{service.submit()}/events"
            with nginx.client() as client, client.stream("GET", path), client.stream("GET", path):
                third = client.get("/healthz")
            assert (third.status_code, third.json()["error"]["code"]) == (429, "too_many_connections")
            assert third.headers["retry-after"] == "5"
        finally:
            direct.post("/api/v1/queue/resume")
