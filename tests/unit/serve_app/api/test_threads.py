"""Calls in threads, whose requests may end before them."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from anyio import CapacityLimiter
from starlette.types import Message, Receive, Scope, Send

from serve_app.api.http import slow_clients
from serve_app.api.http.slow_clients import SlowClients
from serve_app.api.services import Services
from wan22_bridge.errors import NotReady

_HTTP: Scope = {"type": "http", "path": "/", "headers": []}
_KINDS = {"decoders": "decoder_threads", "downloads": "download_threads", "storage": "storage_threads"}


@pytest.fixture
def narrow(services: Services) -> Services:
    """Services with one thread of each kind."""
    return replace(
        services,
        decoder_threads=CapacityLimiter(1),
        download_threads=CapacityLimiter(1),
        storage_threads=CapacityLimiter(1),
    )


class _Work:
    """A call that waits in its thread until it may end."""

    def __init__(self) -> None:
        self.has_begun, self.may_end, self.has_ended = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.has_begun.set()
        self.may_end.wait(30)
        self.has_ended.set()


@asynccontextmanager
async def _abandoned(request: asyncio.Task[None], work: _Work) -> AsyncIterator[None]:
    """Cancels a request while its call runs, and lets the call end afterwards."""
    await asyncio.to_thread(work.has_begun.wait, 30)
    request.cancel()
    await asyncio.wait([request])
    try:
        yield
    finally:
        work.may_end.set()
        await asyncio.to_thread(work.has_ended.wait, 30)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_thread_keeps_its_place_until_its_call_has_ended(kind: str, narrow: Services) -> None:
    use, threads = getattr(narrow, f"use_{kind}"), getattr(narrow, _KINDS[kind])

    async def run() -> tuple[int, int, list[str]]:
        work, made = _Work(), list[str]()
        async with _abandoned(asyncio.create_task(use(work)), work):
            waiting = asyncio.create_task(use(made.append, "abandoned"))
            await asyncio.sleep(0)
            counts = threads.statistics()
            waiting.cancel()
            await asyncio.wait([waiting])
        await use(made.append, "later")
        return counts.borrowed_tokens, counts.tasks_waiting, made

    assert asyncio.run(run()) == (1, 1, ["later"])


def test_the_body_of_a_call_stays_counted_until_the_call_has_ended(
    narrow: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_clients, "_MAX_BODY_BYTES", 100)
    work = _Work()
    errors: list[str | None] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
        except NotReady as exc:
            errors.append(exc.code)
            return
        errors.append(None)
        if not work.has_begun.is_set():
            await narrow.use_decoders(work)

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(90), "more_body": False}

    async def send(_: Message) -> None:
        return

    async def run() -> None:
        limited = SlowClients(application)
        first = asyncio.create_task(limited(_HTTP, receive, send))
        async with _abandoned(first, work):
            await limited(_HTTP, receive, send)
        await narrow.use_decoders(bool)  # the only thread is free again once the body is given back
        await limited(_HTTP, receive, send)

    asyncio.run(run())
    assert errors == [None, "uploads_busy", None]
