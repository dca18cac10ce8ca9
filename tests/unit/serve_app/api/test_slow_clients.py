"""Clients that send or read slowly, and the places that they can take."""

import asyncio
import json
import socket
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from deployments.jobs.limits import LimitExceeded
from deployments.jobs.store import JobStore
from serve_app.api.access.limiting import RequestLimits
from serve_app.api.access.meter import Meter
from serve_app.api.application import make_api
from serve_app.api.http import slow_clients
from serve_app.api.http.slots import Slots
from serve_app.api.http.slow_clients import SlowClients
from serve_app.api.services import Services
from serve_app.settings import LimitSettings
from tests.databases import FILE_NAME
from tests.http_api import serving_api
from tests.jobs import make_job
from tests.rejections import check_rejection
from tests.service import wait_until
from wan22_bridge.errors import InvalidRequest, NotReady

_HTTP: Scope = {"type": "http", "path": "/", "headers": []}


def _part(size: int, *, more: bool) -> Message:
    return {"type": "http.request", "body": bytes(size), "more_body": more}


class _Reader:
    """An application that reads the body. At the path /held, it then never ends."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.has_read = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.error = None
        try:
            while (await receive())["more_body"]:
                self.has_read.set()
            self.has_read.set()
            if scope["path"] == "/held":
                await asyncio.Event().wait()
        except (InvalidRequest, NotReady) as exc:
            self.error = exc


async def _nothing(_: Message) -> None:
    return


def _receiver(parts: Sequence[Message], *, pause: float = 0) -> Receive:
    """Returns a function that receives the parts after a pause each, and then nothing for ever."""
    waiting = iter(parts)

    async def receive() -> Message:
        await asyncio.sleep(pause)
        for part in waiting:
            return part
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def test_a_body_that_stops_arriving_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "_GRACE_SECONDS", 0.1)

    async def run() -> Exception | None:
        reader = _Reader()
        await SlowClients(reader)(_HTTP, _receiver([_part(10, more=True)]), _nothing)
        return reader.error

    error = asyncio.run(run())
    assert isinstance(error, InvalidRequest)
    assert error.code == "request_timeout"
    assert "10 bytes" in error.message


def test_bytes_that_have_arrived_give_a_slow_line_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "_GRACE_SECONDS", 0.1)
    parts = [_part(4_000_000, more=True), _part(1, more=True), _part(1, more=True), _part(1, more=False)]

    async def run() -> Exception | None:
        reader = _Reader()
        await SlowClients(reader)(_HTTP, _receiver(parts, pause=0.06), _nothing)
        return reader.error

    assert asyncio.run(run()) is None


def test_places_for_incomplete_bodies_are_limited_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "_INCOMPLETE_BODIES", 1)

    async def run() -> list[Exception | None]:
        errors, reader = [], _Reader()
        limited = SlowClients(reader)
        slow = asyncio.create_task(limited(_HTTP, _receiver([_part(1, more=True)]), _nothing))
        await reader.has_read.wait()
        for _ in range(2):
            await limited(_HTTP, _receiver([_part(1, more=True), _part(1, more=False)]), _nothing)
            errors.append(reader.error)
            slow.cancel()
            await asyncio.wait([slow])
        return errors

    refused, accepted = asyncio.run(run())
    assert isinstance(refused, NotReady)
    assert refused.code == "uploads_busy"
    assert accepted is None


def test_a_complete_body_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "_INCOMPLETE_BODIES", 0)

    async def run() -> Exception | None:
        reader = _Reader()
        await SlowClients(reader)(_HTTP, _receiver([_part(1, more=False)]), _nothing)
        return reader.error

    assert asyncio.run(run()) is None


def test_a_body_at_a_path_of_small_bodies_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "_INCOMPLETE_BODIES", 0)

    async def run() -> list[Exception | None]:
        errors, reader = [], _Reader()
        limited = SlowClients(reader, small_paths=["/small"])
        for path in ("/small", "/"):
            await limited({**_HTTP, "path": path}, _receiver([_part(1, more=True), _part(1, more=False)]), _nothing)
            errors.append(reader.error)
        return errors

    small, other = asyncio.run(run())
    assert small is None
    assert isinstance(other, NotReady)


def test_the_bodies_of_all_requests_share_a_limited_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "_MAX_BODY_BYTES", 100)

    async def run() -> list[Exception | None]:
        errors, reader = [], _Reader()
        limited = SlowClients(reader, paths_on_disk=["/disk"])
        held = {**_HTTP, "path": "/held"}
        large = asyncio.create_task(limited(held, _receiver([_part(150, more=False)]), _nothing))
        await reader.has_read.wait()
        for scope in (_HTTP, {**_HTTP, "root_path": "/wan22", "path": "/wan22/disk"}):
            await limited(scope, _receiver([_part(1, more=False)]), _nothing)
            errors.append(reader.error)
        large.cancel()
        await asyncio.wait([large])
        await limited(_HTTP, _receiver([_part(90, more=False)]), _nothing)
        return [*errors, reader.error]

    beside_the_large_one, on_disk, later = asyncio.run(run())
    assert isinstance(beside_the_large_one, NotReady)
    assert beside_the_large_one.code == "uploads_busy"
    assert (on_disk, later) == (None, None)


@pytest.mark.parametrize(
    "message",
    [{"type": "http.response.body", "body": b"x"}, {"type": "websocket.send", "text": "x"}],
    ids=["response", "socket"],
)
def test_a_client_that_does_not_read_ends_the_request(monkeypatch: pytest.MonkeyPatch, message: Message) -> None:
    monkeypatch.setattr(slow_clients, "_GRACE_SECONDS", 0.05)
    raised: list[BaseException] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):  # an error handler would send, too
            try:
                await send(message)
            except OSError as exc:
                raised.append(exc)
        raise raised[-1]

    async def stuck(_: Message) -> None:
        await asyncio.Event().wait()

    scope = {**_HTTP, "type": "websocket"} if "websocket" in message["type"] else _HTTP
    asyncio.run(SlowClients(application)(scope, _receiver([]), stuck))
    assert len(raised) == 2


@contextmanager
def _client(services: Services, **places: Any) -> Iterator[TestClient]:
    with TestClient(make_api(replace(services, **places))) as client:
        yield client


def test_a_stream_beyond_the_limit_gets_503_and_a_socket_a_reason(services: Services) -> None:
    streams = Slots(1, "streams", "streams_busy")
    job = services.store.writer.submit(make_job())
    path = f"/api/v1/generation/{job.id}/events"
    with _client(services, streams=streams) as client, client.websocket_connect("/ws") as first:
        assert first.receive_json()["type"] == "connection_established"
        refused = client.get(path)
        check_rejection(refused, 503, "streams_busy")
        assert refused.headers["retry-after"] == "5"
        with client.websocket_connect("/ws") as second, pytest.raises(WebSocketDisconnect) as closed:
            second.receive_json()
        assert (closed.value.code, closed.value.reason) == (1013, "1 streams are open, which is the limit.")
    services.store.writer.request_cancel(job.id)
    with _client(services, streams=streams) as client:
        assert "event: task" in client.get(path).text


def test_a_request_that_may_not_wait_submits_no_job(services: Services) -> None:
    with _client(services, streams=Slots(0, "streams", "streams_busy")) as client:
        answer = client.post("/v1/videos/sync", json={"prompt": "a red circle"})
    check_rejection(answer, 503, "streams_busy")
    assert services.store.reader.page(limit=1) == []


def _complete(store: JobStore, data_dir: Path, content: bytes) -> str:
    """Stores a completed job whose video has this content, and returns the path of the video."""
    job = store.runner.claim(store.writer.submit(make_job()).id, lease_seconds=60)
    assert job is not None
    folder = f"outputs/{job.id}/1"
    (data_dir / folder).mkdir(parents=True)
    (data_dir / folder / "video.mp4").write_bytes(content)
    output: dict[str, Any] = {"folder": folder, "video": "video.mp4"}
    store.runner.complete(job.id, job.fencing_token, output=output, result={})
    return f"/v1/videos/{job.id}/content"


def test_a_download_beyond_the_limit_gets_503(services: Services) -> None:
    path = _complete(services.store, services.settings.data_dir, video := bytes(1_000_000))
    small = _complete(services.store, services.settings.data_dir, b"small")
    downloads = Slots(1, "downloads", "downloads_busy")
    with _client(services, downloads=downloads) as client:
        with downloads.hold():
            refused = client.get(path)
            assert client.get(small).content == b"small", "a small file takes no place"
        check_rejection(refused, 503, "downloads_busy")
        assert refused.headers["retry-after"] == "5"
        assert client.get(path).content == video


def test_the_downloads_of_a_client_are_limited(tmp_path: Path) -> None:
    with serving_api(tmp_path, limits={"open_downloads": 1}) as url, httpx.Client(base_url=url) as client:
        store = JobStore(f"sqlite:///{tmp_path / 'data' / FILE_NAME}", migrate=False)
        large = _complete(store, tmp_path / "data", bytes(50_000_000))
        small = _complete(store, tmp_path / "data", b"small")
        store.database.close()
        with httpx.stream("GET", url + large) as stalled:
            assert stalled.status_code == 200
            refused = client.get(large)
            assert client.get(small).content == b"small"
        error = check_rejection(refused, 429, "limit_exceeded")
        assert (error["param"], refused.headers["retry-after"]) == ("open_downloads", "10")
        wait_until(lambda: client.get(large).status_code == 200)


def test_the_uploads_of_a_client_are_limited() -> None:
    async def run() -> list[int]:
        received = list[int]()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["more_body"]:
                received.append(scope["client"][1])

        limited = RequestLimits(application, Meter(LimitSettings(open_uploads=1), 1))

        def upload(number: int, address: str, *parts: Message) -> Coroutine[Any, Any, None]:
            scope = {**_HTTP, "method": "POST", "client": (address, number)}
            return limited(scope, _receiver(parts), _nothing)

        first = asyncio.create_task(upload(1, "192.0.2.1", _part(1, more=True)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # its first part has arrived
        with pytest.raises(LimitExceeded, match="The limit open_uploads is 1: "):
            await upload(2, "192.0.2.1", _part(1, more=True))
        await upload(3, "192.0.2.1", _part(1, more=False))
        await upload(4, "192.0.2.2", _part(1, more=True), _part(1, more=False))
        first.cancel()
        await asyncio.wait([first])
        await upload(5, "192.0.2.1", _part(1, more=True), _part(1, more=False))
        return received

    assert asyncio.run(run()) == [1, 4, 5]


def test_a_download_that_nobody_reads_gives_its_place_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slow_clients, "_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(slow_clients, "_BYTES_PER_SECOND", 1e9)
    monkeypatch.setattr("serve_app.api.services._DOWNLOADS", 1)
    with serving_api(tmp_path) as url:
        store = JobStore(f"sqlite:///{tmp_path / 'data' / FILE_NAME}", migrate=False)
        large = _complete(store, tmp_path / "data", bytes(50_000_000))
        other = _complete(store, tmp_path / "data", content := bytes(1_000_000))
        store.database.close()
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as stalled:
            stalled.sendall(f"GET {large} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            assert stalled.recv(100).startswith(b"HTTP/1.1 200")
            wait_until(lambda: httpx.get(url + other, verify=False).content == content, seconds=30)


def test_a_body_of_one_byte_per_time_gets_408(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slow_clients, "_GRACE_SECONDS", 0.1)
    with serving_api(tmp_path) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            head = f"POST /api/v1/generation/submit HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
            slow.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
            received = b""
            while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                received += slow.recv(65536)
    head_of_answer, _, body = received.partition(b"\r\n\r\n")
    assert head_of_answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["error"]["code"] == "request_timeout"
