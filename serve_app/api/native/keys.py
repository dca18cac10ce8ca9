"""The native API's routes for API keys, which `wan22 keys` creates too."""

from fastapi import APIRouter, Request, Response

from serve_app.api.access.authentication import keep_response
from serve_app.api.access.callers import NEEDS_ADMIN, Administering, Caller
from serve_app.api.schemas.keys import KeyInfo, KeyList, KeyRequest, KeyRotation, NewKey
from serve_app.api.services import Services, Serving
from wan22_bridge.errors import Conflict

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])

_DAY_SECONDS = 24 * 3600.0


@router.get("", dependencies=[NEEDS_ADMIN])
def list_keys(serving: Serving) -> KeyList:
    """Returns all keys without their secrets, also those that have ended."""
    return KeyList(keys=[KeyInfo.of(key) for key in serving.store.keys.all()])


@router.post("")
def create_key(request: KeyRequest, response: Response, serving: Serving, caller: Administering) -> NewKey:
    """Creates a key and returns it, once. It is valid within seconds. Responds 409 where keys are off."""
    _require_keys(serving)
    lifetime = None if request.expires_days is None else request.expires_days * _DAY_SECONDS
    key, text = serving.store.keys.create(request.owner, request.scopes, lifetime_seconds=lifetime, actor=caller.actor)
    response.headers["cache-control"] = "no-store"
    return NewKey(**KeyInfo.of(key).model_dump(), key=text)


@router.post("/{key_id}/revoke")
def revoke_key(key_id: str, request: Request, serving: Serving, caller: Administering) -> KeyInfo:
    """Ends a key and its sessions. A key that was revoked before stays as it is."""
    _keep_response(key_id, request, caller)
    return KeyInfo.of(serving.store.keys.revoke(key_id, actor=caller.actor))


@router.post("/{key_id}/rotate")
def rotate_key(
    key_id: str,
    request: Request,
    response: Response,
    serving: Serving,
    caller: Administering,
    rotation: KeyRotation | None = None,
) -> NewKey:
    """Replaces a key by a new one with the same owner, scopes and lifetime, and returns the new one, once."""
    _require_keys(serving)
    _keep_response(key_id, request, caller)
    overlap = (rotation or KeyRotation()).overlap_hours * 3600
    key, text = serving.store.keys.rotate(key_id, overlap_seconds=overlap, actor=caller.actor)
    response.headers["cache-control"] = "no-store"
    return NewKey(**KeyInfo.of(key).model_dump(), key=text)


def _keep_response(key_id: str, request: Request, caller: Caller) -> None:
    """Lets the response to a request arrive that ends the caller's own key. The new key is in no other response."""
    if key_id == caller.key_id:
        keep_response(request)


def _require_keys(serving: Services) -> None:
    """Lets nobody who needs no key create one, which would be valid after a restart of the service with keys.

    Raises:
        Conflict: keys are off.
    """
    if not serving.needs_keys:
        raise Conflict(
            "This service needs no keys, so it creates none.",
            code="keys_off",
            suggestions=["Create keys with `wan22 keys create`, and set allow_anonymous: false in args:."],
        )
