"""The limits on requests, sockets, streams and uploads, as every route has them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

from fastapi import Depends
from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.access.meter import Meter, meter_of
from serve_app.api.access.refusing import refuse
from wan22_bridge.errors import Wan22Error

_UNCOUNTED = ("/healthz", "/readyz", "/health")
"""Paths of the health checks. Whoever watches the service may share an address with its clients."""
_MESSAGES_PATH = "/mcp"
"""Path of the MCP server, which leaves the response to GET open. No route can declare that it holds a stream."""
_TRY_AGAIN_LATER = 1013
"""Code with which a WebSocket is closed whose client has too many."""


class RequestLimits:
    """ASGI middleware that counts requests, sockets and uploads, and rejects those beyond a limit with 429.

    It runs behind `Authentication`, so that it knows the caller. Requests without a valid key cost as little to reject
    there as here.
    """

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app, self._meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application, or responds with an error.

        Raises:
            LimitExceeded: the client has too many uploads. It is raised inside the application, which responds.
        """
        path = get_route_path(scope) if scope["type"] in ("http", "websocket") else None
        if path is None or path in _UNCOUNTED:
            await self._app(scope, receive, send)
            return
        is_socket = scope["type"] == "websocket"
        is_stream = path == _MESSAGES_PATH and scope.get("method") == "GET"
        with ExitStack() as stack:
            try:
                self._meter.count_request(scope)
                if is_socket:
                    stack.enter_context(self._meter.open(scope, "open_sockets"))
                elif is_stream:
                    stack.enter_context(self._meter.open(scope, "open_streams"))
            except Wan22Error as exc:
                await refuse(exc, scope, receive, send, close_code=_TRY_AGAIN_LATER)
                return
            await self._app(scope, stack.enter_context(_counting_body(self._meter, scope, receive)), send)


@contextmanager
def _counting_body(meter: Meter, scope: Scope, receive: Receive) -> Iterator[Receive]:
    """Yields a function that receives messages, and counts an upload while the rest of a body is still to arrive."""
    with ExitStack() as upload:
        has_begun = False

        async def counted() -> Message:
            nonlocal has_begun
            message = await receive()
            if not message.get("more_body"):
                upload.close()
            elif not has_begun:
                upload.enter_context(meter.open(scope, "open_uploads"))
            has_begun = True
            return message

        yield counted


async def _hold_stream(connection: HTTPConnection) -> AsyncIterator[None]:
    with meter_of(connection).open(connection.scope, "open_streams"):
        yield


HOLDS_STREAM = Depends(_hold_stream)
"""Dependency of a route whose response waits for a job. FastAPI ends it after the response."""
