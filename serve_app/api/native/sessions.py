"""The native API's route for sessions: the web page exchanges a key for a cookie."""

from fastapi import APIRouter, Request, Response

from deployments.jobs.api_keys import ApiKey, Scope
from serve_app.api.access.authentication import Authenticating, unauthenticated
from serve_app.api.http.browsers import is_from_own_page
from serve_app.api.schemas.keys import SessionInfo, SignIn
from wan22_bridge.errors import Conflict, InvalidRequest

PATH = "/api/v1/session"
MAX_BODY_BYTES = 4096
"""Maximum size of the body with which a session begins. Everyone may send it, so it must cost little."""

router = APIRouter(prefix=PATH, tags=["keys"])


@router.get("")
async def read_session(request: Request, response: Response, authenticating: Authenticating) -> SessionInfo:
    """Returns who sends the request, by its key or its session, and what the sender may do. Needs no key.

    It renews a session that is older than an hour. The page sends this request every hour.
    """
    response.headers["cache-control"] = "no-store"
    if authenticating.ring is None:
        return SessionInfo(needs_key=False, key_id=None, owner=None, scopes=list(Scope))
    identity = await authenticating.identify(request)
    session = None if identity is None else identity.session
    if session is not None and session.needs_renewal():
        # No other response does so: one that takes long could arrive after the user has signed out, and undo that.
        cookie = await authenticating.sessions.begin(request, session.key_id, is_secure=session.is_secure)
        response.headers.append("set-cookie", cookie)
    return _describe(None if identity is None else identity.key)


@router.post("")
async def begin_session(
    sign_in: SignIn, request: Request, response: Response, authenticating: Authenticating
) -> SessionInfo:
    """Begins a session of the web page: a cookie that stands for the key until the browser is closed.

    The session ends twelve hours after the page was last visible, and with its key. Programs send their key with each
    request instead.
    """
    if authenticating.ring is None:
        raise Conflict("This service needs no keys, so it has no sessions.", code="keys_off")
    if not is_from_own_page(request.headers):
        raise InvalidRequest("Only the service's own page begins sessions.", code="origin_not_allowed")
    key = await authenticating.ring.find(sign_in.key.strip())
    if key is None:
        raise unauthenticated()
    response.headers.append("set-cookie", await authenticating.sessions.begin(request, key.id))
    response.headers["cache-control"] = "no-store"
    return _describe(key)


@router.delete("")
async def end_session(request: Request, response: Response, authenticating: Authenticating) -> SessionInfo:
    """Ends the session in this browser by removing the cookie. A copy of the cookie stays valid until it expires."""
    response.headers.append("set-cookie", authenticating.sessions.end(request))
    response.headers["cache-control"] = "no-store"
    if authenticating.ring is None:
        return SessionInfo(needs_key=False, key_id=None, owner=None, scopes=list(Scope))
    return _describe(None)


def _describe(key: ApiKey | None) -> SessionInfo:
    if key is None:
        return SessionInfo(needs_key=True, key_id=None, owner=None, scopes=[])
    allowed = Scope if Scope.ADMIN in key.scopes else [scope for scope in Scope if scope in key.scopes]
    return SessionInfo(needs_key=True, key_id=key.id, owner=key.owner, scopes=list(allowed))
