"""Errors that a middleware sends in place of the application's response."""

from collections.abc import Mapping

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from serve_app.api.http.errors import respond_to_error
from wan22_bridge.errors import Wan22Error


async def refuse(
    error: Wan22Error,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    close_code: int,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Responds with an error to a request, or refuses a WebSocket with it.

    Args:
        error: the error.
        scope: the request.
        receive: receives the request's messages.
        send: sends the response's messages.
        close_code: code for a WebSocket whose server can't send a response.
        headers: further headers.
    """
    if scope["type"] == "websocket":
        await receive()  # the server expects that the request to connect is read
        if "websocket.http.response" not in scope.get("extensions", {}):
            await WebSocketClose(close_code, error.message[:120])(scope, receive, send)
            return
    await respond_to_error(error, headers)(scope, receive, send)
