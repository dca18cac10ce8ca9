"""Clients that attack a service on this machine, each kind in a process of its own with a low priority.

The low priority is for the service's sake: attackers have machines of their own.
"""

import asyncio
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import websockets
from PIL import Image

from benchmarks.support.running import ROOT

SLOW, SOCKETS, IDLE, STALLED = 500, 1000, 1000, 300
"""Number of connections of an attack."""
_CONNECTING = 50
"""Number of connections that an attack opens at the same time."""
_UNREAD_SECONDS = 120
"""Time after which a client gives up a response that it has not read, longer than the service waits."""
_LARGE_JSON = 30_000_000
_FORM_FIELDS = 10_000
_JSON_PATH = "/api/v1/generation/submit"
_BAD_BODIES: tuple[tuple[str, bytes], ...] = (
    ("application/json", b"{"),
    ("application/json", b"[" * 1000),
    ("application/json", b'{"prompt": 1, "unknown": [1, 2, 3]}'),
    ("multipart/form-data; boundary=x", b"--y\r\nno form"),
    ("application/x-www-form-urlencoded", b"a[=1&a[]=2&a=3"),
    ("text/plain", b"prompt"),
)


@contextmanager
def attacking(name: str, url: str, path: str = "") -> Iterator[None]:
    """Attacks while the context is open.

    Args:
        name: one of `ATTACKS`.
        url: the service.
        path: the path of a large file, for the attack that needs one.
    """
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, name, url, path], cwd=ROOT)
    try:
        yield
        if process.poll() is not None:
            raise SystemExit(f"The clients of the attack {name} have failed.")
    finally:
        process.terminate()
        process.wait()


class _Target:
    """The attacked service."""

    def __init__(self, url: str, path: str) -> None:
        parts = urlsplit(url)
        self.url, self.path = url, path
        self.host, self.port = str(parts.hostname), int(parts.port or 80)
        self._connecting = asyncio.Semaphore(_CONNECTING)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self._connecting:
            return await asyncio.open_connection(self.host, self.port)

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def post(self, path: str, content_type: str, body: bytes) -> None:
        """Sends a request over a connection of its own, and reads the response to its end."""
        reader, writer = await self.connect()
        headers = {"content-type": content_type, "content-length": str(len(body)), "connection": "close"}
        try:
            writer.write(self.head("POST", path, headers) + body)
            await reader.read(-1)
        finally:
            writer.close()


async def _repeat(action: Callable[[], Awaitable[object]], *, seconds: float = 0) -> None:
    """Repeats an action, which the service may end, with a pause after each time."""
    while True:
        try:
            await action()
        except (OSError, EOFError, websockets.WebSocketException):
            await asyncio.sleep(0.5)
        await asyncio.sleep(seconds)


async def _many(count: int, action: Callable[[], Awaitable[object]], *, seconds: float = 0) -> None:
    await asyncio.gather(*(_repeat(action, seconds=seconds) for _ in range(count)))


async def _drip(target: _Target, beginning: bytes) -> None:
    """Sends a byte per second after the beginning of a request, until the service responds."""
    reader, writer = await target.connect()
    try:
        writer.write(beginning)
        response = asyncio.create_task(reader.read(1000))
        while not response.done():
            writer.write(b" ")
            await writer.drain()
            await asyncio.wait([response], timeout=1)
    finally:
        writer.close()


async def _slow_headers(target: _Target) -> None:
    await _many(SLOW, partial(_drip, target, f"GET /healthz HTTP/1.1\r\nhost: {target.host}\r\nx-slow: ".encode()))


async def _slow_bodies(target: _Target) -> None:
    """Half of the bodies stay in HAProxy's buffer, the other half is too large for it."""
    head = target.head("POST", _JSON_PATH, {"content-type": "application/json", "content-length": "1000000"})
    await asyncio.gather(*(_many(SLOW // 2, partial(_drip, target, head + b" " * sent)) for sent in (10, 40_000)))


async def _never_read(target: _Target) -> None:
    """Requests a large file and reads nothing."""

    async def request() -> None:
        _, writer = await target.connect()
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(target.head("GET", target.path, {}))
            await asyncio.sleep(_UNREAD_SECONDS)
        finally:
            writer.transport.abort()

    await _many(STALLED, request)


async def _idle(target: _Target) -> None:
    """Opens connections, sends nothing, and opens them again when the service has closed them."""

    async def wait() -> None:
        reader, writer = await target.connect()
        try:
            await reader.read(-1)
        finally:
            writer.close()

    await _many(IDLE, wait)


async def _sockets(target: _Target) -> None:
    opening = asyncio.Semaphore(_CONNECTING)

    async def hold() -> None:
        async with opening:
            socket = await websockets.connect(target.url.replace("http", "ws") + "/ws", open_timeout=60)
        async with socket:
            async for _ in socket:
                continue

    await _many(SOCKETS, hold, seconds=5)


async def _bad_bodies(target: _Target, *, clients: int = 4, seconds: float = 0.04) -> None:
    bodies = itertools.cycle(_BAD_BODIES)

    async def send() -> None:
        content_type, body = next(bodies)
        await target.post(_JSON_PATH, content_type, body)

    await _many(clients, send, seconds=seconds)


async def _huge_json(target: _Target) -> None:
    body = b'{"prompt": [' + b"0," * (_LARGE_JSON // 2) + b"0]}"
    await _many(2, partial(target.post, _JSON_PATH, "application/json", body), seconds=1)


async def _form_fields(target: _Target) -> None:
    body = "&".join(f"field{number}=1" for number in range(_FORM_FIELDS)).encode()
    form = partial(target.post, _JSON_PATH, "application/x-www-form-urlencoded", body)
    await _many(4, form, seconds=0.1)


async def _everything(target: _Target) -> None:
    """Polls, opens and closes sockets, uploads an image and sends bad bodies, at steady rates."""
    image = io.BytesIO()
    Image.new("RGB", (512, 512), "red").save(image, "PNG")
    boundary = "wan22"
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    upload = head.encode() + image.getvalue() + f"\r\n--{boundary}--\r\n".encode()

    async def read(path: str) -> None:
        reader, writer = await target.connect()
        try:
            writer.write(target.head("GET", path, {"connection": "close"}))
            await reader.read(-1)
        finally:
            writer.close()

    async def open_socket() -> None:
        async with websockets.connect(target.url.replace("http", "ws") + "/ws") as socket:
            await socket.recv()

    await asyncio.gather(
        _many(5, partial(read, target.path), seconds=0.2),
        _many(5, open_socket, seconds=1),
        _many(
            2, partial(target.post, "/api/v1/uploads", f"multipart/form-data; boundary={boundary}", upload), seconds=1
        ),
        _bad_bodies(target, clients=2, seconds=0.2),
    )


MIXED = "polling, sockets, uploads and bad bodies"
"""The attack for measurements of memory. Its path is what it polls."""
ATTACKS: dict[str, Callable[[_Target], Awaitable[Any]]] = {
    f"{SLOW} slow headers": _slow_headers,
    f"{SLOW} bodies of one byte per second": _slow_bodies,
    f"{STALLED} readers that never read": _never_read,
    f"{SOCKETS} sockets": _sockets,
    f"{IDLE} idle connections": _idle,
    "a flood of bad bodies": _bad_bodies,
    "huge JSON": _huge_json,
    f"{_FORM_FIELDS} form fields": _form_fields,
    MIXED: _everything,
}
"""The attacks by their names. All but the last one have no limit but their own pauses."""


async def _main(name: str, url: str, path: str) -> None:
    await ATTACKS[name](_Target(url, path))


if __name__ == "__main__":
    os.nice(10)
    asyncio.run(_main(*sys.argv[1:]))
