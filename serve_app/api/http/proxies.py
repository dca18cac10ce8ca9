"""Addresses behind a reverse proxy: the client's host, scheme and address, and the prefix of every path."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from serve_app.haproxy.client_address import read_client

_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")

SENT_HOST = "wan22_sent_host"
"""Key of a scope for the host that the request itself named, where a trusted proxy has forwarded another one."""

_prefix: ContextVar[str] = ContextVar("prefix", default="")


def prefixed(path: str) -> str:
    """Returns the path of a link as the client of the current request reaches it.

    Args:
        path: a path of this API, such as `/docs`.
    """
    return _prefix.get() + path


@contextmanager
def under_prefix(prefix: str) -> Iterator[None]:
    """Makes `prefixed` add a prefix within the context, where no request tells it."""
    token = _prefix.set(prefix)
    try:
        yield
    finally:
        _prefix.reset(token)


class ReverseProxies:
    """ASGI middleware that undoes what reverse proxies do to a request.

    The service's own HAProxy sends the address of each request's sender in a header. Requests of trusted proxies have
    the client's host, scheme, address and path prefix in their `X-Forwarded-Host`, `-Proto`, `-For` and `-Prefix`
    headers. Such headers of other clients are ignored.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[str], root_path: str) -> None:
        """Stores the configuration.

        Args:
            app: the application.
            trusted: addresses and networks of proxies.
            root_path: the prefix that a proxy removes from every path, if the proxy sends no `X-Forwarded-Prefix`.
        """
        self._app = app
        self._networks = [ip_network(item, strict=False) for item in trusted]
        self._root_path = root_path
        # uvicorn's types of ASGI differ from Starlette's in names only.
        self._with_client = ProxyHeadersMiddleware(app, trusted_hosts=list(trusted))  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application with the addresses that the client used."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope, root_path = dict(scope), self._root_path
        app = self._app
        if client := read_client(scope["headers"]):
            scope["client"] = (client, 0)
        if (proxy := self._find_trusted(scope)) is not None:
            scope["client"] = (proxy, scope["client"][1])
            app = self._with_client  # type: ignore[assignment]
            if _HOST.fullmatch(host := _last(scope, b"x-forwarded-host")):
                scope[SENT_HOST] = Headers(scope=scope).get("host", "")
                others = [(name, value) for name, value in scope["headers"] if name != b"host"]
                scope["headers"] = [(b"host", host.encode()), *others]
            if _PREFIX.fullmatch(prefix := _last(scope, b"x-forwarded-prefix").rstrip("/")):
                root_path = prefix
        if root_path:
            scope["path"] = root_path + scope["path"]
            scope["raw_path"] = root_path.encode() + (scope.get("raw_path") or b"")
            scope["root_path"] = root_path + scope.get("root_path", "")
        token = _prefix.set(scope.get("root_path", "").rstrip("/"))
        try:
            await app(scope, receive, send)
        finally:
            _prefix.reset(token)

    def _find_trusted(self, scope: Scope) -> str | None:
        """Returns the address of the trusted proxy that has sent a request, or None if another client has."""
        try:
            address = ip_address(scope["client"][0])
            address = getattr(address, "ipv4_mapped", None) or address  # a socket of IPv6 shows IPv4 so
        except (KeyError, TypeError, ValueError):
            return None
        return str(address) if any(address in network for network in self._networks) else None


def _last(scope: Scope, name: bytes) -> str:
    """Returns the last value of a header, which the proxy nearest to this service added; empty without the header."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[-1].decode("latin-1").rpartition(",")[2].strip() if values else ""
