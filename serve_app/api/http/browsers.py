"""Protection of the service from web pages that its users' browsers have open, and of its own pages from others.

A page of any site can make the browser of its visitor send requests to a service on the visitor's machine or network.
The browser names the page's origin in them. Such a page can also let its own host name resolve to the service's address
(DNS rebinding); the requests then come from the same origin, but name that host.
"""

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.http.errors import respond_to_error
from serve_app.api.http.proxies import SENT_HOST
from wan22_bridge.errors import InvalidRequest

_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")
"""Ends of host names that nobody can register, so that no site on the internet has them (RFC 6761, 6762, 8375)."""
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Policy for pages. They load nothing from other hosts. The scripts of /docs are in the page itself."""
_DATA_POLICY = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""Policy for all else, such as a picture or a video that a browser opens by its address."""


class BrowserGuard:
    """ASGI middleware that rejects what pages of other sites send, and adds security headers to each response.

    It rejects host names that another site can have, other origins in requests that change something and in sockets,
    and bodies without a content type, which browsers send to other origins without asking.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str] | None, origins: Sequence[str]) -> None:
        """Stores the configuration.

        Args:
            app: the application.
            allowed_hosts: further host names of the service; None for all names.
            origins: origins whose pages may call the service; `*` for all.
        """
        self._app = app
        self._checks_hosts = allowed_hosts is not None
        self._hosts = {socket.gethostname().lower(), *(host.lower() for host in allowed_hosts or ())}
        self._origins = set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application, or rejects the request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except InvalidRequest as exc:
            if scope["type"] == "websocket":
                await receive()  # the server expects that the request to connect is read
                await send({"type": "websocket.close", "code": 1008, "reason": exc.message[:120]})
            else:
                await respond_to_error(exc)(scope, receive, _with_headers(send))
            return
        await self._app(scope, receive, _with_headers(send) if scope["type"] == "http" else send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if "*" not in self._origins:
            for name in (host, scope.get(SENT_HOST, "")) if self._checks_hosts else ():
                if name and not self._is_own(name):
                    raise InvalidRequest(
                        f"The host name {name[:120]!r} is not this service's.",
                        code="host_not_allowed",
                        suggestions=["Use the IP address of the service, or add the name to allowed_hosts in args:."],
                    )
            is_safe = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
            if origin is not None and not is_safe and not self._is_allowed(origin, host):
                raise InvalidRequest(
                    f"Pages of {origin[:120]!r} may not call this service, whose address is {host[:120]!r}.",
                    code="origin_not_allowed",
                    suggestions=[
                        "Add the origin to cors_origins in args:.",
                        "If a reverse proxy serves this origin, add its address to trusted_proxies, and let it send "
                        "X-Forwarded-Host.",
                    ],
                )
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if scope["type"] == "http" and has_body and "content-type" not in headers:
            raise InvalidRequest(
                "The body has no content type.",
                code="unsupported_content_type",
                suggestions=["Send the header content-type: application/json, or that of a form."],
            )

    def _is_own(self, host: str) -> bool:
        """Returns whether no other site can have this host name."""
        name = (_split(f"//{host}") or ("", 0))[0]
        if not name:
            return False
        try:
            ip_address(name)
        except ValueError:
            return "." not in name or name in self._hosts or name.endswith(_LOCAL_SUFFIXES)
        return True

    def _is_allowed(self, origin: str, host: str) -> bool:
        """Returns whether a page of this origin may change something."""
        return origin in self._origins or _is_same(origin, host)


def is_from_own_page(headers: Headers) -> bool:
    """Returns whether a request comes from a page of this service, from its user's own doing, or from no browser.

    A browser counts all ports of a host as one site, so it sends this service's cookies for pages of other ports too.
    """
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    return site in ("same-origin", "none") and (origin is None or _is_same(origin, headers.get("host", "")))


def _is_same(origin: str, host: str) -> bool:
    """Returns whether an origin is that of this service's own pages."""
    scheme = origin.partition("://")[0].lower()
    # A proxy that ends TLS may not say so: the scheme of the page only tells the port that is meant.
    page = _split(origin)
    return scheme in _DEFAULT_PORTS and page is not None and page == _split(f"{scheme}://{host}")


def _split(url: str) -> tuple[str, int | None] | None:
    """Returns the host name and the port of a URL, or None for a malformed one."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.hostname or "").rstrip("."), port


def _with_headers(send: Send) -> Send:
    """Returns `send` with security headers added to the start of the response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            is_page = headers.get("content-type", "").startswith("text/html")
            headers.setdefault("content-security-policy", _PAGE_POLICY if is_page else _DATA_POLICY)
            headers.setdefault("x-content-type-options", "nosniff")
            headers.setdefault("referrer-policy", "no-referrer")
            headers.setdefault("x-frame-options", "DENY")
        await send(message)

    return send_with_headers
