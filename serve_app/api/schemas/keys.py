"""Bodies of the requests and responses about API keys and sessions."""

import time
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.jobs.api_keys import ApiKey, Scope
from serve_app.api.schemas.links import to_datetime

_Described = ConfigDict(use_attribute_docstrings=True)


class KeyInfo(BaseModel):
    """An API key, without its secret."""

    model_config = _Described

    id: str
    """The middle part of the key."""
    owner: str
    """Owner of the jobs that are submitted with the key."""
    scopes: list[Scope]
    status: Literal["valid", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    """Null for a key that does not expire."""
    last_used_at: datetime | None
    """Time of the last use, up to a minute too early; null before the first use."""

    @classmethod
    def of(cls, key: ApiKey) -> "KeyInfo":
        """Describes a key."""
        is_valid = key.is_valid(time.time())
        return cls(
            id=key.id,
            owner=key.owner,
            scopes=[scope for scope in Scope if scope in key.scopes],
            status="revoked" if key.revoked_at is not None else "valid" if is_valid else "expired",
            created_at=to_datetime(key.created_at),
            expires_at=None if key.expires_at is None else to_datetime(key.expires_at),
            last_used_at=None if key.last_used_at is None else to_datetime(key.last_used_at),
        )


class KeyList(BaseModel):
    """All API keys, also those that have ended, in the order of their creation."""

    keys: list[KeyInfo]


class KeyRequest(BaseModel):
    """A key to create."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")

    owner: str = Field(max_length=64)
    """Owner of the jobs that are submitted with the key: 1 to 64 letters, digits and `._@+-`."""
    scopes: list[Scope] = Field(default=[Scope.READ, Scope.SUBMIT], min_length=1, max_length=3)
    expires_days: float | None = Field(default=None, ge=0.001, le=36500, allow_inf_nan=False)
    """Lifetime in days; null for a key that does not expire."""


class KeyRotation(BaseModel):
    """Replacement of a key."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")

    overlap_hours: float = Field(default=24, ge=0, le=8760, allow_inf_nan=False)
    """Time for which the old key stays valid, in hours."""


class NewKey(KeyInfo):
    """A key that was created."""

    key: str
    """The key. No later response contains it."""


class SignIn(BaseModel):
    """A key with which a session begins."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid")

    key: str = Field(max_length=200)
    """An API key, as `wan22 keys create` prints it."""


class SessionInfo(BaseModel):
    """The sender of the request, as the service knows it."""

    model_config = _Described

    needs_key: bool
    """Whether the service needs an API key or a session. Without them, everyone may do everything."""
    key_id: str | None
    """Id of the key that the request or its session has; null without a valid one, and where keys are off."""
    owner: str | None
    """Owner of the jobs that the sender submits; null without a valid key, and where keys are off."""
    scopes: list[Scope]
    """What the sender may do; empty without a valid key."""
