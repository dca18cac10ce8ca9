"""Clients of a running service that read slowly, or not at all."""

import socket
from contextlib import ExitStack

from tests.service import Service

_MB = 1_000_000
_SIZE, _STALLED = 60 * _MB, 4


def test_downloads_that_nobody_reads_take_little_memory(service: Service) -> None:
    video = service.finished()["id"]
    [file] = (service.data_dir / "outputs" / video).rglob("video.mp4")
    with file.open("r+b") as stream:
        stream.truncate(_SIZE)
    path = f"/api/v1/outputs/{video}/video"
    [ingress] = service.replicas("ingress")
    with service.client() as client, ExitStack() as stalled:
        assert len(client.get(path).content) == _SIZE  # what a download needs for a while is not counted below
        before = ingress.memory_info().rss
        for _ in range(_STALLED):
            connection = stalled.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        # While this one is sent to its end, the service would have read the others to their ends as well.
        assert len(client.get(path).content) == _SIZE
        grown = ingress.memory_info().rss - before
    assert grown < _SIZE, f"{_STALLED} downloads of {_SIZE / _MB:g} MB take {grown / _MB:.0f} MB"


def test_headers_for_ray_serve_have_no_effect(service: Service) -> None:
    """A stream ends with its client's connection, and Serve's time limit is not the client's."""
    with service.client() as client:
        answer = client.get("/healthz", headers={"x-request-timeout-seconds": "0.000001"})
        assert answer.json() == {"status": "ok"}
