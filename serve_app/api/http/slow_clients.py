"""Limits for clients that send or read slowly: on their time, and on the places and the memory of their bodies."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import ExitStack
from contextvars import ContextVar

from starlette._utils import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.http.slots import Slots
from wan22_bridge.errors import InvalidRequest, NotReady

_GRACE_SECONDS = 30.0
"""Time that a client has for each body and each message, beyond what its size allows."""
_BYTES_PER_SECOND = 4000
"""Lowest rate of a client: 32 kbit/s."""
_INCOMPLETE_BODIES = 200
"""Maximum number of requests whose bodies are still arriving. HAProxy holds back bodies below 16 KB until they are
complete, so these are larger ones."""
_MAX_BODY_BYTES = 256_000_000
"""Maximum size of the bodies of all open requests together. A single request may exceed it."""


class _Stuck(OSError):
    """The client does not read. Starlette treats an OSError as the end of the connection."""


class SlowClients:
    """ASGI middleware that ends requests of clients that are too slow, and bounds what their bodies take."""

    def __init__(self, app: ASGIApp, paths_on_disk: Collection[str] = (), small_paths: Collection[str] = ()) -> None:
        """Stores the application.

        Args:
            app: the application.
            paths_on_disk: paths of requests whose bodies are written to temporary files instead of into memory.
            small_paths: paths of requests whose bodies take no place, because they can only be small. Clients without
                a key can't take the places of the others with them.
        """
        self._app, self._paths_on_disk, self._small_paths = app, paths_on_disk, small_paths
        self._places = Slots(_INCOMPLETE_BODIES, "uploads", "uploads_busy")
        self._total_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application.

        The errors are raised inside the application, which responds.

        Raises:
            InvalidRequest: the body arrives too slowly.
            NotReady: too many bodies are arriving, or they take too much memory together.
        """
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = get_route_path(scope)
        body = _Body(
            self, receive, in_memory=path not in self._paths_on_disk, takes_place=path not in self._small_paths
        )
        sender = _Sender(send)
        token = _current.set(body)
        try:
            await self._app(scope, body.receive if scope["type"] == "http" else receive, sender.send)
        except Exception:
            if not sender.is_stuck:
                raise
        finally:
            _current.reset(token)
            body.close()

    def hold_place(self, stack: ExitStack) -> None:
        """Takes a place for a body that is still arriving, until the stack is closed."""
        stack.enter_context(self._places.hold())

    def add_bytes(self, count: int, own_bytes: int) -> None:
        """Adds bytes of a body to the sum, from which a negative count removes them.

        Raises:
            NotReady: the sum would be over the limit, and not only because of this body.
        """
        if count > 0 and self._total_bytes + count > _MAX_BODY_BYTES and self._total_bytes > own_bytes:
            raise NotReady(
                f"The bodies of all requests take {self._total_bytes / 1e6:.0f} MB of memory: the limit is "
                f"{_MAX_BODY_BYTES / 1e6:g} MB.",
                code="uploads_busy",
                suggestions=["Try again after a few seconds."],
            )
        self._total_bytes += count


class _Body:
    """The body of a request."""

    def __init__(self, limits: SlowClients, receive: Receive, *, in_memory: bool, takes_place: bool) -> None:
        self._limits, self._receive = limits, receive
        self._in_memory, self._takes_place = in_memory, takes_place
        self._place = ExitStack()
        self._users = 1
        self._bytes = 0
        self._seconds = 0.0
        self._has_begun = self._is_complete = False

    async def receive(self) -> Message:
        """Receives a part of the body, or the disconnect after its end."""
        if self._is_complete:
            return await self._receive()
        clock = asyncio.get_running_loop().time
        began, allowed = clock(), _GRACE_SECONDS + self._bytes / _BYTES_PER_SECOND
        try:
            async with asyncio.timeout(allowed - self._seconds):
                message = await self._receive()
        except TimeoutError:
            raise InvalidRequest(
                f"The request's body arrives too slowly: {self._bytes} bytes in {allowed:.0f} s. Expected at least "
                f"{_BYTES_PER_SECOND} bytes per second after the first {_GRACE_SECONDS:g} s.",
                code="request_timeout",
                can_retry=True,
            ) from None
        self._seconds += clock() - began
        size = len(message.get("body", b""))
        if self._in_memory:
            self._limits.add_bytes(size, self._bytes)
        self._bytes += size
        if not message.get("more_body"):
            self._is_complete = True
            self._place.close()
        elif self._takes_place and not self._has_begun:
            self._limits.hold_place(self._place)
        self._has_begun = True
        return message

    def close(self) -> None:
        """Gives back the place, and the memory unless work that outlasts the request still uses it."""
        self._place.close()
        self._release()

    def hold(self) -> Callable[[], None]:
        """Keeps the memory counted until the returned function is called."""
        if not self._users:  # its request has ended already
            return lambda: None
        self._users += 1
        return self._release

    def _release(self) -> None:
        self._users -= 1
        if not self._users and self._in_memory:
            self._limits.add_bytes(-self._bytes, self._bytes)


_current: ContextVar[_Body | None] = ContextVar("body", default=None)


def hold_body() -> Callable[[], None]:
    """Keeps the body of the current request counted until the returned function is called, also after its end."""
    body = _current.get()
    return (lambda: None) if body is None else body.hold()


class _Sender:
    """Sends the messages of a response or of a WebSocket."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_stuck = False

    async def send(self, message: Message) -> None:
        """Sends a message.

        Raises:
            _Stuck: the client does not read, or reads too slowly.
        """
        if self.is_stuck:
            raise _Stuck
        size = len(message.get("body") or message.get("bytes") or message.get("text") or b"")
        try:
            async with asyncio.timeout(_GRACE_SECONDS + size / _BYTES_PER_SECOND):
                await self._send(message)
        except TimeoutError:
            self.is_stuck = True
            raise _Stuck from None
