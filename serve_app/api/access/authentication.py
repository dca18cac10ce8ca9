"""Authentication of every request, before its body is read and before any route sees it."""

import re
import time
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends
from sqlalchemy.exc import SQLAlchemyError
from starlette._utils import get_route_path
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.jobs.api_keys import ApiKey
from serve_app.api.access.accounts import account_of_address, account_of_key
from serve_app.api.access.addresses import find_address
from serve_app.api.access.callers import POLICY_VIOLATION, Caller, Unauthenticated
from serve_app.api.access.links import LinkSigner, is_signed
from serve_app.api.access.refusing import refuse
from serve_app.api.access.ring import REFRESH_SECONDS, KeyRing
from serve_app.api.access.sessions import Session, Sessions
from serve_app.settings import LimitSettings
from wan22_bridge.errors import NotReady, Wan22Error

PUBLIC = re.compile(
    r"/|/assets/.*|/healthz|/readyz|/health|/openapi\.json|/docs(/oauth2-redirect)?|/redoc|/static-offline-docs/.*"
    r"|/api/v1/session"
)
"""Paths that need no key: health checks, the web page and the documentation, which are the same for every service, and
the route at which the page exchanges a key for a session."""
SUBPROTOCOL = "wan22"
"""Subprotocol that a WebSocket gets if it offers it, as browsers that offer any expect."""
_KEY_SUBPROTOCOL = "wan22-key."
"""Beginning of a subprotocol that holds a key, because scripts in browsers can send no headers with a WebSocket."""


_ENDS_OWN_KEY = "ends_own_key"
"""Name in the state of a request that ends the key with which it was sent, and whose response is sent nevertheless."""


class _Revoked(OSError):
    """The key of an open connection is no longer valid. Starlette treats an OSError as the end of the connection."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The valid key of a request."""

    key: ApiKey
    session: Session | None = None
    """The session that stands for the key, if the request sends no key."""


class Authenticator:
    """Finds the key of a request: the one that it sends, else that of its session."""

    def __init__(self, ring: KeyRing | None, sessions: Sessions) -> None:
        self.ring, self.sessions = ring, sessions

    async def identify(self, connection: HTTPConnection) -> Identity | None:
        """Returns the valid key of a request, or None; None, too, where keys are off.

        Raises:
            SQLAlchemyError: the keys or the secret of sessions can't be read.
        """
        if self.ring is None:
            return None
        if text := read_key(connection):
            key = await self.ring.find(text)
            return None if key is None else Identity(key)
        session = await self.sessions.find(connection)
        key = None if session is None else await self.ring.find_by_id(session.key_id)
        return None if key is None else Identity(key, session)


class Authentication:
    """ASGI middleware that finds the caller of each request, and responds 401 to requests without a valid key.

    A session of the web page takes the place of a key, and a signed link does so for the one file that it names.

    Responses that take long, such as streams and WebSockets, end once their key is no longer valid.
    """

    def __init__(self, app: ASGIApp, authenticator: Authenticator, links: LinkSigner, limits: LimitSettings) -> None:
        """Stores the keys.

        Args:
            app: the application.
            authenticator: finds keys. Without a ring, keys are off, so that everyone may do everything.
            links: verifies signed links.
            limits: limits on the callers.
        """
        self._app, self._authenticator, self._links, self._limits = app, authenticator, links, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application with the caller in the request's state, or responds with an error."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif self._authenticator.ring is None:
            account = account_of_address(find_address(scope), self._limits)
            await self._app(_with_caller(scope, Caller(account=account)), receive, send)
        elif PUBLIC.fullmatch(get_route_path(scope) or "/"):
            await self._app(scope, receive, send)
        else:
            await self._authenticate(self._authenticator.ring, scope, receive, send)

    async def _authenticate(self, ring: KeyRing, scope: Scope, receive: Receive, send: Send) -> None:
        connection = HTTPConnection(scope)
        try:
            has_link = await self._has_link(connection)
            identity = None if has_link else await self._authenticator.identify(connection)
        except SQLAlchemyError:
            error: Wan22Error = NotReady("The database can't be reached.", code="database_unavailable")
            await _refuse(error, scope, receive, send)
            return
        if has_link:
            await self._app(_with_caller(scope, Caller.of_link()), receive, send)
        elif identity is not None:
            scope = _with_caller(scope, Caller.of(identity.key, account_of_key(identity.key, self._limits)))
            await self._run_while_valid(_Guard(ring, identity, scope, send), scope, receive)
        else:
            await _refuse(unauthenticated(), scope, receive, send)

    async def _has_link(self, connection: HTTPConnection) -> bool:
        path, query = get_route_path(connection.scope), connection.query_params
        return is_signed(path, query) and await run_in_threadpool(self._links.verifies, path, query)

    async def _run_while_valid(self, guard: "_Guard", scope: Scope, receive: Receive) -> None:
        try:
            await self._app(scope, receive, guard.send)
        except Exception:
            if not guard.is_closed:
                raise
        if guard.is_closed and not guard.has_begun and scope["type"] == "http":
            await _refuse(unauthenticated(), scope, receive, guard.send_unchecked)


class _Guard:
    """Sends the messages of a connection while its key and its session are valid."""

    def __init__(self, ring: KeyRing, identity: Identity, scope: Scope, send: Send) -> None:
        self._ring, self._identity, self._state = ring, identity, scope["state"]
        self._is_websocket, self.send_unchecked = scope["type"] == "websocket", send
        self._checked_at = time.monotonic()
        self.is_closed = self.has_begun = False

    async def send(self, message: Message) -> None:
        """Sends a message.

        Raises:
            _Revoked: the key is no longer valid.
        """
        is_due = time.monotonic() >= self._checked_at + REFRESH_SECONDS
        if is_due and not self.is_closed and not self._state.get(_ENDS_OWN_KEY):
            await self._check()
        if self.is_closed:
            raise _Revoked
        self.has_begun = True
        await self.send_unchecked(message)

    async def _check(self) -> None:
        self._checked_at = time.monotonic()
        try:
            has_ended = self._identity.session is not None and not self._identity.session.is_valid()
            self.is_closed = has_ended or not await self._ring.holds(self._identity.key)
        except SQLAlchemyError:
            return  # the next message repeats the check
        if self.is_closed and self._is_websocket:
            await self.send_unchecked(
                {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "The API key has ended."}
            )


async def _authenticator(connection: HTTPConnection) -> Authenticator:
    return cast(Authenticator, connection.app.state.authenticator)


Authenticating = Annotated[Authenticator, Depends(_authenticator)]
"""Annotation of a route's argument that receives the authenticator of the application."""


def read_key(connection: HTTPConnection) -> str:
    """Returns the text of the key that a request sends; empty if it sends none.

    X-API-Key comes first, because a proxy in front of the service may use Authorization for itself.
    """
    if "x-api-key" in connection.headers:
        return connection.headers["x-api-key"].strip()
    scheme, _, token = connection.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    for offered in connection.scope.get("subprotocols", ()):
        if offered.startswith(_KEY_SUBPROTOCOL):
            return str(offered.removeprefix(_KEY_SUBPROTOCOL))
    return ""


def keep_response(connection: HTTPConnection) -> None:
    """Makes the response of a request be sent although the request ends the key with which it was sent."""
    connection.scope["state"][_ENDS_OWN_KEY] = True


def _with_caller(scope: Scope, caller: Caller) -> Scope:
    return {**scope, "state": {**scope.get("state", {}), "caller": caller}}


def unauthenticated() -> Unauthenticated:
    """Returns the error for each key that is not valid. It gives no reason, so that nobody learns which keys exist."""
    return Unauthenticated(suggestions=["Send the key as Authorization: Bearer KEY, or as X-API-Key: KEY."])


async def _refuse(error: Wan22Error, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"www-authenticate": "Bearer"} if isinstance(error, Unauthenticated) else {}
    await refuse(error, scope, receive, send, close_code=POLICY_VIOLATION, headers=headers)
