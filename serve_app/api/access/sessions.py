"""Sessions of the web page: cookies that stand for a key, without holding it.

A session is the text `KEYID.EXPIRES.SIGNATURE`, with an `s` after the time if the browser sends it over HTTPS only. It
is not stored, so it ends with its key.
"""

import hmac
import re
import time
from dataclasses import dataclass
from http.cookies import SimpleCookie

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from serve_app.api.access.links import LinkSigner
from serve_app.api.http.browsers import is_from_own_page

LIFETIME_SECONDS = 12 * 3600
"""Time without a request after which a session ends."""
RENEWAL_SECONDS = 3600
"""Age from which `GET /api/v1/session` replaces a session by a new one. The page sends this request every hour."""
_FORM = re.compile(r"([0-9a-f]{16})\.([0-9]{1,12})(s?)\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Session:
    """A session that a request has sent."""

    key_id: str
    expires_at: float
    """Seconds since the epoch."""
    is_secure: bool = False
    """Whether the browser sends it over HTTPS only."""

    def is_valid(self) -> bool:
        """Returns whether the session has not expired. Its key may have ended."""
        return time.time() < self.expires_at

    def needs_renewal(self) -> bool:
        """Returns whether the session should be replaced."""
        return self.expires_at - time.time() < LIFETIME_SECONDS - RENEWAL_SECONDS


class Sessions:
    """Writes and reads the cookies of sessions."""

    def __init__(self, signer: LinkSigner) -> None:
        self._signer = signer

    async def begin(self, connection: HTTPConnection, key_id: str, *, is_secure: bool = False) -> str:
        """Returns the value of the `Set-Cookie` header with which a session of a key begins or is renewed.

        Args:
            connection: the request.
            key_id: id of the key.
            is_secure: whether the browser may send the session over HTTPS only, even if this request does not tell
                that its page came over HTTPS. A GET request does not tell where a proxy ends TLS and does not say so.
        """
        is_secure = is_secure or _is_from_https(connection)
        expires = f"{int(time.time()) + LIFETIME_SECONDS}{'s' if is_secure else ''}"
        signature = await self._sign(key_id, expires)
        return _cookie(connection, f"{key_id}.{expires}.{signature}", is_secure=is_secure)

    def end(self, connection: HTTPConnection) -> str:
        """Returns the value of the `Set-Cookie` header that removes the session from the browser."""
        return _cookie(connection, "", is_secure=_is_from_https(connection), max_age=0)

    async def find(self, connection: HTTPConnection) -> Session | None:
        """Returns the session that a request sends, or None if it sends no valid one.

        Sessions in requests of other pages do not count, also of pages from other ports of the service's host.

        Raises:
            SQLAlchemyError: the secret can't be read.
        """
        match = _FORM.fullmatch(connection.cookies.get(_name(connection), ""))
        if match is None or not is_from_own_page(connection.headers):
            return None
        key_id, expires, mark, signature = match.groups()
        session = Session(key_id, float(expires), is_secure=bool(mark))
        expected = await self._sign(key_id, expires + mark)
        if not hmac.compare_digest(signature, expected) or not session.is_valid():
            return None
        return session

    async def _sign(self, key_id: str, expires: str) -> str:
        return await run_in_threadpool(self._signer.signature_of, f"session\n{key_id}\n{expires}")


def _name(connection: HTTPConnection) -> str:
    """Returns the name of the cookie, with the port, because browsers share cookies between the ports of a host."""
    try:
        port = connection.url.port
    except ValueError:  # the client sent a host with an impossible port
        port = None
    return "wan22_session" if port is None else f"wan22_session_{port}"


def _is_from_https(connection: HTTPConnection) -> bool:
    """Returns whether a page that came over HTTPS has sent a request, also through a proxy that does not say so."""
    return connection.url.scheme in ("https", "wss") or connection.headers.get("origin", "").startswith("https://")


def _cookie(connection: HTTPConnection, value: str, *, is_secure: bool, max_age: int | None = None) -> str:
    """Returns a cookie for this service's pages only. Without an age, the browser drops it when it is closed."""
    cookie = SimpleCookie({(name := _name(connection)): value})
    cookie[name]["path"] = connection.scope.get("root_path", "").rstrip("/") or "/"
    cookie[name]["httponly"] = True
    cookie[name]["samesite"] = "Strict"
    if is_secure:
        cookie[name]["secure"] = True
    if max_age is not None:
        cookie[name]["max-age"] = max_age
    return cookie[name].OutputString()
