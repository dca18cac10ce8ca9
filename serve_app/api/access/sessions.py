"""Sessions of the web page: cookies that stand for a key, without holding it.

A session is the text `KEYID.EXPIRES.SIGNATURE`. It is not stored, so it ends with its key.
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
"""Age from which a session is replaced by a new one in the response to a request."""
_FORM = re.compile(r"([0-9a-f]{16})\.([0-9]{1,12})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Session:
    """A session that a request has sent."""

    key_id: str
    expires_at: float
    """Seconds since the epoch."""

    def is_valid(self) -> bool:
        """Returns whether the session has not expired. Its key may have ended."""
        return time.time() < self.expires_at

    def needs_renewal(self) -> bool:
        """Returns whether the next response should replace the session."""
        return self.expires_at - time.time() < LIFETIME_SECONDS - RENEWAL_SECONDS


class Sessions:
    """Writes and reads the cookies of sessions."""

    def __init__(self, signer: LinkSigner) -> None:
        self._signer = signer

    async def begin(self, connection: HTTPConnection, key_id: str) -> str:
        """Returns the value of the `Set-Cookie` header with which a session of a key begins or is renewed."""
        expires = int(time.time()) + LIFETIME_SECONDS
        signature = await self._sign(key_id, str(expires))
        return _cookie(connection, f"{key_id}.{expires}.{signature}")

    def end(self, connection: HTTPConnection) -> str:
        """Returns the value of the `Set-Cookie` header that removes the session from the browser."""
        return _cookie(connection, "", max_age=0)

    async def find(self, connection: HTTPConnection) -> Session | None:
        """Returns the session that a request sends, or None if it sends no valid one.

        Sessions in requests of other pages do not count, also of pages from other ports of the service's host.

        Raises:
            SQLAlchemyError: the secret can't be read.
        """
        match = _FORM.fullmatch(connection.cookies.get(_name(connection), ""))
        if match is None or not is_from_own_page(connection.headers):
            return None
        key_id, expires, signature = match.groups()
        session = Session(key_id, float(expires))
        if not hmac.compare_digest(signature, await self._sign(key_id, expires)) or not session.is_valid():
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


def _cookie(connection: HTTPConnection, value: str, *, max_age: int | None = None) -> str:
    """Returns a cookie for this service's pages only. Without an age, the browser drops it when it is closed."""
    cookie = SimpleCookie({(name := _name(connection)): value})
    cookie[name]["path"] = connection.scope.get("root_path", "").rstrip("/") or "/"
    cookie[name]["httponly"] = True
    cookie[name]["samesite"] = "Strict"
    if connection.url.scheme in ("https", "wss"):
        cookie[name]["secure"] = True
    if max_age is not None:
        cookie[name]["max-age"] = max_age
    return cookie[name].OutputString()
