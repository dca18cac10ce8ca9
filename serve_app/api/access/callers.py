"""Callers: the owner and the scopes of a request, and the dependency with which each route declares its scope."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext
from starlette.exceptions import WebSocketException
from starlette.requests import HTTPConnection

from deployments.jobs.api_keys import ApiKey, Scope
from deployments.jobs.audit import Actor, AuditSource
from deployments.jobs.limits import UNCHARGED, Account
from wan22_bridge.errors import Wan22Error

POLICY_VIOLATION = 1008
"""Code with which a WebSocket is closed, or refused, whose key is not valid or lacks a scope."""


class Unauthenticated(Wan22Error):
    """This service needs a valid API key."""

    category = "authentication"
    default_code = "invalid_api_key"


class Forbidden(Wan22Error):
    """The API key lacks a scope."""

    category = "permission"
    default_code = "scope_missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The sender of a request. Without arguments, one who may do everything: everyone, where keys are off."""

    owner: str = ""
    """Owner of the jobs and inputs that the request makes."""
    scopes: frozenset[Scope] = frozenset(Scope)
    key_id: str | None = None
    has_link: bool = False
    """Whether the caller has a signed link to the file that the request names, in place of a key."""
    notes: dict[str, Any] = field(default_factory=dict, compare=False)
    """Values that the handler adds to the entry of the request in the audit log."""
    account: Account = UNCHARGED
    """Client to whom jobs and uploads are charged, with the limits on the request."""

    @classmethod
    def of(cls, key: ApiKey, account: Account) -> "Caller":
        """Returns the caller who has sent a valid key."""
        return cls(owner=key.owner, scopes=key.scopes, key_id=key.id, account=account)

    @classmethod
    def of_link(cls) -> "Caller":
        """Returns the caller who has sent a signed link. The caller may read whatever that request names."""
        return cls(scopes=frozenset({Scope.READ}), has_link=True)

    @property
    def only(self) -> str | None:
        """The only owner whose jobs exist for the caller; None for one who sees all jobs."""
        return None if self.is_admin or self.has_link else self.owner

    @property
    def is_admin(self) -> bool:
        """Whether the caller may do everything."""
        return Scope.ADMIN in self.scopes

    @property
    def actor(self) -> Actor:
        """The caller, as the audit log names them."""
        return Actor(source=AuditSource.API, name=self.owner, key_id=self.key_id)

    def require(self, scope: Scope) -> None:
        """Checks that the caller has a scope.

        Raises:
            Forbidden: the caller lacks the scope.
        """
        if scope not in self.scopes and not self.is_admin:
            raise Forbidden(
                f"The API key lacks the scope {scope}.",
                suggestions=[f"Use a key with the scope {scope}. The operator creates keys with `wan22 keys create`."],
            )

    def own_key(self, idempotency_key: str | None) -> str | None:
        """Returns the form in which an idempotency key is stored, so that equal keys of two owners differ."""
        if not idempotency_key or not self.owner:
            return idempotency_key or None
        return hashlib.sha256(f"{self.owner}\x00{idempotency_key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Requires:
    """Dependency of a route: lets a caller pass who has the scope, and returns the caller."""

    scope: Scope

    async def __call__(self, connection: HTTPConnection) -> Caller:
        """Returns the caller whom `Authentication` has found.

        Raises:
            Forbidden: the caller lacks the scope.
            WebSocketException: the same, where the request opens a WebSocket.
        """
        scope = connection.scope
        caller = cast(Caller, scope["state"]["caller"])
        try:
            caller.require(self.scope)
        except Forbidden as exc:
            if scope["type"] == "websocket":
                raise WebSocketException(POLICY_VIOLATION, exc.message) from exc
            raise
        if scope["type"] == "http" and caller.is_admin and self.scope is not Scope.READ:
            scope["state"]["audited"] = await connection.app.state.audit.find_entry(scope, self.scope)
        return caller


def find_scope(route: RouteContext) -> Scope | None:
    """Returns the scope that a route declares, or None for a route without one."""
    declared = [call.scope for call in _dependencies(getattr(route, "dependant", None)) if isinstance(call, Requires)]
    return declared[0] if declared else None


def _dependencies(dependant: Dependant | None) -> Iterator[object]:
    for inner in dependant.dependencies if dependant is not None else ():
        yield inner.call
        yield from _dependencies(inner)


Reading = Annotated[Caller, Depends(Requires(Scope.READ))]
"""Annotation of a route's argument that receives the caller, and that declares the scope `read`."""
Submitting = Annotated[Caller, Depends(Requires(Scope.SUBMIT))]
"""The same for the scope `submit`."""
Administering = Annotated[Caller, Depends(Requires(Scope.ADMIN))]
"""The same for the scope `admin`."""
NEEDS_READ = Depends(Requires(Scope.READ))
"""Declares the scope `read` for a route that has no use for the caller."""
NEEDS_SUBMIT = Depends(Requires(Scope.SUBMIT))
"""The same for the scope `submit`."""
NEEDS_ADMIN = Depends(Requires(Scope.ADMIN))
"""The same for the scope `admin`."""
