"""Downloads over real connections: only public servers are reached, and nothing of the service is sent to them."""

import base64
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from deployments.network import addresses, connecting, remote_files
from deployments.network.remote_files import MAX_REDIRECTS, RemoteFiles, Unreadable
from tests.receiver import Receiver, receiving
from tests.service import free_port


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes 127.0.0.1 count as a public address, and no other one."""

    def is_public(address: IPv4Address | IPv6Address) -> bool:
        return address == ip_address("127.0.0.1")

    monkeypatch.setattr(addresses, "is_public", is_public)
    monkeypatch.setattr(connecting, "is_public", is_public)


def _read(url: str, max_bytes: int = 1000) -> bytes:
    return RemoteFiles(max_bytes=max_bytes).read(url)


def _problem(url: str, max_bytes: int = 1000) -> str:
    with pytest.raises(Unreadable) as caught:
        _read(url, max_bytes)
    return str(caught.value)


@pytest.mark.usefixtures("is_allowed")
def test_a_file_is_downloaded_whatever_its_type(server: Receiver) -> None:
    server.content, server.headers = b"\x00\xff" * 400, {"Content-Type": "text/html"}
    assert _read(f"{server.url}/a%20b?c=%2F#d") == server.content
    assert server.requests[0].path == "/a%20b?c=%2F"


@pytest.mark.usefixtures("is_allowed")
def test_nothing_of_the_service_is_sent(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        server.headers = {"Set-Cookie": "a=b"}
        files = RemoteFiles(max_bytes=1000)
        files.read(server.url)
        files.read(server.url)
        assert proxy.requests == []
    for request in server.requests:
        assert sorted(request.headers) == ["accept", "accept-encoding", "host", "user-agent"]
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["host"] == server.url.removeprefix("http://")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "017700000001", "127.1", "0", "[::ffff:127.0.0.1]", "[::1]"],
)
def test_a_private_host_is_not_reached_in_any_notation(server: Receiver, host: str) -> None:
    assert "private address" in _problem(f"http://{host}:{server.url.rpartition(':')[2]}/")
    assert server.requests == []


def _resolve_to(*found: str) -> Any:
    """Returns a resolver that gives a name the next address at each call, like a name server that rebinds a name."""
    answers = iter(found)

    def resolve(host: str, port: int, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    return resolve


def test_a_name_with_a_private_address_is_not_reached(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_to("127.0.0.1"))
    problem = _problem(f"http://harmless.example:{server.url.rpartition(':')[2]}/")
    assert problem == "leads to a host that has no public address."
    assert server.requests == []


@pytest.mark.usefixtures("is_allowed")
def test_the_checked_address_is_the_one_that_is_connected_to(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_to("127.0.0.1", "127.0.0.2"))
    assert _read(f"http://rebound.example:{server.url.rpartition(':')[2]}/") == b"ok"


_UNUSABLE_TARGET = "redirects to a URL that can't be used: expected https or http and a public address."


@pytest.mark.usefixtures("is_allowed")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_to_a_public_address_only(server: Receiver, status: int) -> None:
    port = server.url.rpartition(":")[2]
    server.status = status
    for host in ("127.0.0.2", "[::1]", "2130706434", "localhost", "169.254.169.254", "[::ffff:127.0.0.2]"):
        server.headers = {"Location": f"http://{host}:{port}/latest/meta-data"}
        assert _problem(server.url) == _UNUSABLE_TARGET, "the target is not told"
    assert {request.path for request in server.requests} == {"/"}
    with receiving() as other:
        other.content = b"content"
        server.headers = {"Location": f"{other.url}/file"}
        assert _read(server.url) == b"content"
        assert "authorization" not in other.requests[0].headers
        assert "referer" not in other.requests[0].headers


@pytest.mark.usefixtures("is_allowed")
@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("file:///etc/passwd", _UNUSABLE_TARGET),
        ("gopher://127.0.0.1:6379/_FLUSHALL", _UNUSABLE_TARGET),
        ("http://user:password@127.0.0.1/", _UNUSABLE_TARGET),
        ("http://127.0.0.1:x/", "redirects to something that is no URL."),
        ("http://127.0.0.1:0/", _UNUSABLE_TARGET),
    ],
)
def test_a_redirect_to_an_odd_url_is_refused(server: Receiver, location: str, problem: str) -> None:
    server.status, server.headers = 302, {"Location": location}
    assert _problem(server.url) == problem
    assert len(server.requests) == 1


@pytest.mark.usefixtures("is_allowed")
def test_redirects_without_an_end_are_given_up(server: Receiver) -> None:
    server.status, server.headers = 302, {"Location": "/again"}
    assert _problem(server.url) == f"redirects more than {MAX_REDIRECTS} times."
    assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.usefixtures("is_allowed")
def test_a_file_over_the_limit_is_not_kept(server: Receiver) -> None:
    server.content = b"x" * 1001
    assert "larger than the limit" in _problem(server.url)
    with socket.create_server(("127.0.0.1", 0)) as endless:

        def serve() -> None:
            connection, _ = endless.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    while True:
                        connection.sendall(b"x" * 1000)
                except OSError:
                    pass  # the client has read enough

        thread = threading.Thread(target=serve)
        thread.start()
        assert "larger than the limit" in _problem(f"http://127.0.0.1:{endless.getsockname()[1]}/")
        thread.join()


@pytest.mark.usefixtures("is_allowed")
def test_a_compressed_file_is_not_unpacked(server: Receiver) -> None:
    server.headers, server.content = {"Content-Encoding": "gzip"}, base64.b64decode("H4sIAAAAAAAAA0vMKMnMAwAAAP//")
    assert _read(server.url) == server.content


@pytest.mark.usefixtures("is_allowed")
@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 401, 404, 500])
def test_another_status_is_an_error_that_names_it(server: Receiver, status: int) -> None:
    server.status, server.content = status, b""
    assert f"status {status}" in _problem(server.url)


@pytest.mark.usefixtures("is_allowed")
def test_a_server_that_does_not_respond_is_given_up(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "TIMEOUT_SECONDS", 0.3)
    server.answering.clear()
    assert "did not arrive within 0.3 s" in _problem(server.url)
    assert "can't be reached" in _problem(f"http://127.0.0.1:{free_port()}/")
    assert "can't be reached" in _problem("http://nothing.invalid/")
