"""API keys: who may use the service, and as which owner. Docs: docs/adr/0017-api-keys.md.

A key is the text `wan22_ID_SECRET`. The database stores the SHA-256 of the secret only.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from deployments.jobs.audit import Actor, write_entry
from deployments.jobs.database import Database
from deployments.jobs.schema import api_keys as table
from wan22_bridge.errors import Conflict, InvalidRequest, NotFound

OWNER_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}"
"""Form of an owner's name."""
_KEY = re.compile(r"wan22_([0-9a-f]{16})_([0-9a-f]{64})")
_ID_BYTES, _SECRET_BYTES = 8, 32


class Scope(StrEnum):
    """Permission of a key. A scope includes no other, except that `admin` includes all."""

    READ = "read"
    """Read the owner's jobs and videos, and the state of the service."""
    SUBMIT = "submit"
    """Submit jobs and uploads, and change or delete the owner's jobs."""
    ADMIN = "admin"
    """Read and change the jobs of all owners, and change the service."""


class KeyNotFound(NotFound):
    """There is no such API key."""

    default_code = "api_key_not_found"


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A stored API key. Times are seconds since the epoch."""

    id: str
    owner: str
    """Name of the owner of the jobs that are submitted with the key. Several keys may have the same owner."""
    scopes: frozenset[Scope]
    secret_hash: str
    """SHA-256 of the secret, in hexadecimal digits."""
    created_at: float
    lifetime_seconds: float | None
    """Time between the creation and the expiry, if no rotation ends the key earlier; None for no expiry."""
    expires_at: float | None
    """None for a key that does not expire."""
    revoked_at: float | None
    last_used_at: float | None
    """Time of the last use, up to a minute too early; None before the first use."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """The key's own limits, by the names of `ClientLimits`. They take the place of the service's."""

    def matches(self, secret: str) -> bool:
        """Returns whether this is the key's secret. The time that it takes does not depend on the secret."""
        return hmac.compare_digest(self.secret_hash, _hash(secret))

    def is_valid(self, now: float) -> bool:
        """Returns whether the key is neither revoked nor expired at the time `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def parse_key(text: str) -> tuple[str, str] | None:
    """Returns the id and the secret of a key's text, or None if the text has not the form of a key."""
    match = _KEY.fullmatch(text)
    return None if match is None else (match[1], match[2])


class ApiKeys:
    """Creates, reads and ends API keys. Each method is one short transaction.

    The audit log gets an entry for each change, as an action of the user who runs this process.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def create(
        self,
        owner: str,
        scopes: Collection[Scope],
        *,
        lifetime_seconds: float | None = None,
        limits: Mapping[str, Any] = MappingProxyType({}),
        actor: Actor | None = None,
    ) -> tuple[ApiKey, str]:
        """Creates a key.

        Args:
            owner: name of the owner.
            scopes: at least one scope.
            lifetime_seconds: time after which the key expires; None for a key that does not expire.
            limits: the key's own limits, as `parse_limit` returns them.
            actor: who creates it, for the audit log; by default this process's user.

        Returns:
            The stored key and its text, which nothing can restore later.

        Raises:
            InvalidRequest: the owner's name has not the form of a name.
        """
        if not re.fullmatch(OWNER_PATTERN, owner):
            raise InvalidRequest(
                f"owner: {owner!r:.80} is no name of an owner.",
                param="owner",
                suggestions=["Use 1 to 64 letters, digits and ._@+-, and begin with a letter or a digit."],
            )
        with self._database.writing() as connection:
            key, text = self._insert(connection, owner, scopes, lifetime_seconds, limits)
            self._record(connection, actor, "create_key", key)
            return key, text

    def all(self) -> list[ApiKey]:
        """Returns all keys, also those that are revoked or expired, in the order of their creation."""
        with self._database.reading() as connection:
            return [_to_key(row) for row in connection.execute(select(table).order_by(table.c.created_at, table.c.id))]

    def valid(self) -> dict[str, ApiKey]:
        """Returns the keys that are neither revoked nor expired, by their ids."""
        alive = table.c.revoked_at.is_(None) & or_(table.c.expires_at.is_(None), table.c.expires_at > self._clock())
        with self._database.reading() as connection:
            return {row.id: _to_key(row) for row in connection.execute(select(table).where(alive))}

    def revoke(self, key_id: str, *, actor: Actor | None = None) -> ApiKey:
        """Ends a key at once, and returns it. A key that was revoked before stays as it is.

        Raises:
            KeyNotFound: there is no key with this id.
        """
        with self._database.writing() as connection:
            key = _find(connection, key_id)
            if key.revoked_at is not None:
                return key
            self._record(connection, actor, "revoke_key", key)
            return _change(connection, key_id, {"revoked_at": self._clock()})

    def rotate(self, key_id: str, *, overlap_seconds: float, actor: Actor | None = None) -> tuple[ApiKey, str]:
        """Creates a key with the owner, the scopes, the limits and the lifetime of another, which then expires.

        Args:
            key_id: id of the key to replace.
            overlap_seconds: time for which both keys are valid.
            actor: as in `create`.

        Returns:
            The new key and its text.

        Raises:
            KeyNotFound: there is no key with this id.
            Conflict: the key is revoked or expired.
        """
        with self._database.writing() as connection:
            key, now = _find(connection, key_id), self._clock()
            if not key.is_valid(now):
                raise Conflict(
                    f"The key {key_id} is {'expired' if key.revoked_at is None else 'revoked'}.",
                    code="api_key_ended",
                    suggestions=[f"Create another key: wan22 keys create --owner {key.owner}."],
                )
            ends_at = now + overlap_seconds
            if key.expires_at is None or key.expires_at > ends_at:
                _change(connection, key_id, {"expires_at": ends_at})
            new, text = self._insert(connection, key.owner, key.scopes, key.lifetime_seconds, key.limits)
            self._record(connection, actor, "rotate_key", key, new_key=new.id)
            return new, text

    def record_use(self, key_id: str) -> None:
        """Writes that a key is used now."""
        with self._database.writing() as connection:
            connection.execute(update(table).where(table.c.id == key_id).values(last_used_at=self._clock()))

    def _record(self, connection: Connection, actor: Actor | None, action: str, key: ApiKey, **details: str) -> None:
        details |= {"owner": key.owner, "scopes": ", ".join(sorted(key.scopes))}
        write_entry(connection, self._clock(), actor or Actor.local(), action, key.id, details=details)

    def _insert(
        self,
        connection: Connection,
        owner: str,
        scopes: Collection[Scope],
        lifetime_seconds: float | None,
        limits: Mapping[str, Any],
    ) -> tuple[ApiKey, str]:
        key_id, secret, now = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES), self._clock()
        row = {
            "id": key_id,
            "owner": owner,
            "scopes": [scope.value for scope in Scope if scope in scopes],
            "secret_hash": _hash(secret),
            "created_at": now,
            "lifetime_seconds": lifetime_seconds,
            "expires_at": None if lifetime_seconds is None else now + lifetime_seconds,
            "limits": dict(limits),
        }
        key = _to_key(connection.execute(insert(table).values(**row).returning(table)).one())
        return key, f"wan22_{key_id}_{secret}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _find(connection: Connection, key_id: str) -> ApiKey:
    row = connection.execute(select(table).where(table.c.id == key_id).with_for_update()).one_or_none()
    if row is None:
        raise KeyNotFound(
            f"There is no API key with the id {key_id!r:.80}.",
            suggestions=["List the keys to find its id: wan22 keys list. The id is the middle part of a key."],
        )
    return _to_key(row)


def _change(connection: Connection, key_id: str, values: dict[str, Any]) -> ApiKey:
    return _to_key(
        connection.execute(update(table).where(table.c.id == key_id).values(**values).returning(table)).one()
    )


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey(**dict(row._mapping) | {"scopes": frozenset(map(Scope, row.scopes))})
