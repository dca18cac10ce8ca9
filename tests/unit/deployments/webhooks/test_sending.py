"""Attempts over real connections: the service's network stays out of reach, and each fault is an outcome."""

import asyncio
import base64
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest

from deployments.jobs.deliveries import Delivery, DeliveryState
from deployments.network import connecting
from deployments.webhooks.sending import Outcome, Sender
from tests.receiver import Receiver, receiving
from tests.service import free_port

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def _delivery(url: str) -> Delivery:
    return Delivery(
        number=1,
        id="msg_1",
        job_id="video_1",
        owner="",
        url=url,
        receiver="",
        trusted=False,
        type="video.completed",
        payload='{"type":"video.completed"}',
        state=DeliveryState.PENDING,
        attempts=1,
        next_attempt_at=0.0,
        last_status=None,
        last_error=None,
        created_at=0.0,
        delivered_at=None,
    )


def _send(url: str, *, allow_private: bool = False, timeout_seconds: float = 10) -> Outcome:
    async def send() -> Outcome:
        with ThreadPoolExecutor(1) as resolvers:
            sender = Sender(resolvers, allow_private=allow_private, timeout_seconds=timeout_seconds)
            return await sender.send(_delivery(url), SECRET)

    return asyncio.run(send())


def _error(outcome: Outcome) -> str:
    assert outcome.error is not None
    return outcome.error


def test_a_webhook_is_a_signed_post_request(receiver: Receiver) -> None:
    assert _send(f"{receiver.url}/hook?token=x", allow_private=True) == Outcome(status=200)
    [request] = receiver.requests
    assert request.path == "/hook?token=x"
    assert request.verify(SECRET) == {"type": "video.completed"}
    assert (request.headers["webhook-id"], request.headers["content-type"]) == ("msg_1", "application/json")
    assert abs(time.time() - int(request.headers["webhook-timestamp"])) < 60
    assert request.headers["user-agent"].startswith("wan22-serve/")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST"])
def test_the_host_header_is_the_host_of_the_url(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    port = receiver.url.rpartition(":")[2]
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_to("127.0.0.1"))
    assert _send(f"http://{host}:{port}/", allow_private=True).status == 200
    assert receiver.requests[0].headers["host"] == f"{host.lower()}:{port}"


def test_private_addresses_need_the_operators_permission(receiver: Receiver) -> None:
    port = receiver.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.1", "127.1", "0", "[::ffff:127.0.0.1]"):
        outcome = _send(f"http://{host}:{port}/")
        assert "Private addresses are not allowed" in _error(outcome), host
        assert outcome.status is None
    assert receiver.requests == []
    assert _send(receiver.url, allow_private=True).status == 200
    assert _send(f"http://localhost:{port}/", allow_private=True).status == 200
    assert len(receiver.requests) == 2


def _resolve_to(*addresses: str) -> Any:
    """Returns a resolver that gives a name the next address at each call, like a name server that rebinds a name."""
    answers = iter(addresses)

    def resolve(host: str, port: int, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    return resolve


def test_a_name_that_resolves_to_a_private_address_is_not_reached(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receiver.url.rpartition(":")[2]
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_to("127.0.0.1"))
    error = _error(_send(f"http://harmless.example:{port}/"))
    assert error == "Private addresses are not allowed: harmless.example has no public address."
    assert receiver.requests == []


def test_the_checked_address_is_the_one_that_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves to an allowed address at first, and to a forbidden one whenever it is resolved again."""
    port = receiver.url.rpartition(":")[2]
    allowed = ip_address("127.0.0.1")

    def is_allowed(address: IPv4Address | IPv6Address) -> bool:
        return address == allowed

    monkeypatch.setattr(connecting, "is_public", is_allowed)
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_to("127.0.0.1", "127.0.0.2"))
    assert _send(f"http://rebound.example:{port}/").status == 200
    assert receiver.requests[0].headers["host"] == f"rebound.example:{port}"


@contextmanager
def _ignoring_connections(address: str, port: int) -> Iterator[None]:
    """Listens with a full queue, so that the system drops the packets of further connections."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.socket())
        server.bind((address, port))
        server.listen(0)
        opened.enter_context(socket.socket()).connect((address, port))
        yield


def test_an_address_that_does_not_respond_leaves_time_for_the_next_one(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(receiver.url.rpartition(":")[2])
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{last}", port)) for last in (2, 3, 1)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    with _ignoring_connections("127.0.0.2", port), _ignoring_connections("127.0.0.3", port):
        assert _send(f"http://half-dead.example:{port}/", allow_private=True, timeout_seconds=3) == Outcome(status=200)
        assert len(receiver.requests) == 1
        del addresses[-1]
        outcome = _send(f"http://dead.example:{port}/", allow_private=True, timeout_seconds=1)
        assert _error(outcome) == "The receiver did not respond within 1 s."


def test_a_redirect_is_a_failed_attempt_and_is_not_followed(receiver: Receiver) -> None:
    with receiving() as inside:
        for status in (301, 302, 303, 307, 308):
            receiver.status, receiver.headers = status, {"Location": inside.url}
            outcome = _send(receiver.url, allow_private=True)
            assert outcome.status == status
            assert "Redirects are not followed" in _error(outcome)
        assert inside.requests == []


@pytest.mark.parametrize(("status", "is_final"), [(400, False), (404, False), (410, True), (429, False), (503, False)])
def test_other_statuses_are_failed_attempts(receiver: Receiver, status: int, is_final: bool) -> None:
    receiver.status, receiver.headers = status, {"Retry-After": "77"}
    outcome = _send(receiver.url, allow_private=True)
    assert (outcome.status, outcome.is_final, outcome.retry_after) == (status, is_final, "77")
    assert str(status) in _error(outcome)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_status_of_success_is_accepted(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.content = status, b""
    assert _send(receiver.url, allow_private=True) == Outcome(status=status)


def test_a_receiver_that_does_not_respond_is_given_up(receiver: Receiver) -> None:
    receiver.answering.clear()
    assert "did not respond within 0.5 s" in _error(_send(receiver.url, allow_private=True, timeout_seconds=0.5))


def test_an_unreachable_receiver_is_an_outcome() -> None:
    refused = _send(f"http://127.0.0.1:{free_port()}/", allow_private=True)
    assert "can't be reached" in _error(refused)
    assert "has no address" in _error(_send("http://nothing.invalid/"))
    assert "has no address" in _error(_send(f"http://{'a' * 64}.example/"))


@contextmanager
def _answering(content: bytes, *, forever: bool = False) -> Iterator[str]:
    """Runs a server that reads something and sends fixed bytes, once or as long as the client reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(content)
                    while forever:
                        connection.sendall(content[-1000:])
                except OSError:
                    pass  # the client has read enough

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_response_without_an_end_is_not_read() -> None:
    with _answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, forever=True) as url:
        assert _send(url, allow_private=True) == Outcome(status=200)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, b"\x16\x03\x01\x02\x00"]
)
def test_a_response_that_is_not_http_is_an_outcome(content: bytes) -> None:
    with _answering(content) as url:
        outcome = _send(url, allow_private=True)
        assert outcome.status is None
        assert len(_error(outcome)) < 300


def test_endless_headers_end_with_an_outcome() -> None:
    with _answering(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, forever=True) as url:
        assert _send(url, allow_private=True, timeout_seconds=1).status is None


def test_a_receiver_without_tls_is_an_outcome(receiver: Receiver) -> None:
    assert "can't be reached" in _error(_send(receiver.url.replace("http:", "https:"), allow_private=True))
