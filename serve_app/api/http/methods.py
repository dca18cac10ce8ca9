"""Manners of every route: HEAD, trailing slashes, and the methods that a path allows."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.http.errors import respond_to_status


class _HeadersSent(OSError):
    """The response to HEAD is complete, so that the application need not produce the rest of the body.

    Starlette treats an OSError while it sends as the end of the connection.
    """


class _Pattern(NamedTuple):
    regex: re.Pattern[str]
    methods: frozenset[str]


class Methods:
    """ASGI middleware that serves HEAD like GET, and paths with a trailing slash like those without.

    A method that no route of a path has is rejected with all methods that the path allows. Starlette names the methods
    of one route only, and takes `/videos/edits` for the id in `/videos/{video_id}`.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """Stores the routes.

        Args:
            app: the application.
            routes: the application's list of routes, which is read at the first request.
        """
        self._app = app
        self._routes = routes
        self._fixed: dict[str, frozenset[str]] | None = None
        self._patterns: list[_Pattern] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application, or responds 405."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if (path := get_route_path(scope)) != "/" and path.endswith("/"):
            raw = scope.get("raw_path") or b""
            scope = {**scope, "path": scope["path"][:-1], "raw_path": raw.removesuffix(b"/")}
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        if is_head:
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        allowed = self._find_methods(get_route_path(scope) or "/")
        app: ASGIApp = self._app
        if allowed and scope["method"] not in allowed:
            app = respond_to_status(HTTPStatus.METHOD_NOT_ALLOWED, {"allow": ", ".join(sorted(allowed))})
        try:
            await app(scope, receive, send)
        except (_HeadersSent, ClientDisconnect):
            if not is_head:
                raise

    def _find_methods(self, path: str) -> frozenset[str]:
        """Returns the methods that the routes of a path have, or an empty set for an unknown path."""
        if self._fixed is None:
            self._fixed = self._read_routes()
        if path in self._fixed:
            return self._fixed[path]
        return frozenset().union(*(item.methods for item in self._patterns if item.regex.match(path)))

    def _read_routes(self) -> dict[str, frozenset[str]]:
        """Reads the patterns of paths with parameters, and returns the methods of the paths without."""
        fixed: dict[str, frozenset[str]] = {}
        for route in iter_route_contexts(self._routes):
            if not route.methods or route.path_format is None:
                continue
            methods = frozenset(route.methods | ({"HEAD"} if "GET" in route.methods else set()))
            if "{" in route.path_format:
                self._patterns.append(_Pattern(route.path_regex, methods))
            else:
                fixed[route.path_format] = fixed.get(route.path_format, frozenset()) | methods
        return fixed


def _without_body(send: Send) -> Send:
    """Returns a function that sends the status and the headers, and then stops the response."""

    async def send_headers(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if message.get("more_body"):
            raise _HeadersSent

    return send_headers
