"""The audit log: who has changed the service, or the jobs of other owners, and when.

It holds neither secrets nor prompts.
"""

import getpass
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from deployments.jobs.database import Database
from deployments.jobs.schema import audit_log as table

MAX_ENTRIES = 100_000
"""Number of entries above which the oldest are removed, whatever their age."""
_MAX_CHARACTERS = 300
"""Maximum length of a stored text. Targets hold names that clients choose."""


class AuditSource(StrEnum):
    """Way by which an action reached the service."""

    API = "api"
    """A request."""
    CLI = "cli"
    """A command on a machine of the operator."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who acts."""

    source: AuditSource
    name: str
    """Owner of the API key, or user of the operating system. Empty for a request without a key."""
    key_id: str | None = None
    """Id of the API key; None for a request without one, and for a command."""

    @classmethod
    def local(cls) -> "Actor":
        """Returns the user of the operating system who runs this process."""
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # containers run as users without a name
            name = str(os.getuid())
        return cls(source=AuditSource.CLI, name=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """An action in the log."""

    number: int
    at: float
    """Seconds since the epoch."""
    actor: Actor
    action: str
    """Name of the operation, such as `delete_lora`."""
    target: str
    """What the action changed: the path of the request, or an id."""
    details: Mapping[str, Any]
    """Values that say more about the action."""
    result: str
    """`ok`, `cancelled` if the client disconnected before the response, or its HTTP status, such as `HTTP 409`."""


class AuditLog:
    """Reads and writes the audit log. Each method is one short transaction."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def record(
        self, actor: Actor, action: str, target: str, *, details: Mapping[str, Any] | None = None, result: str = "ok"
    ) -> None:
        """Writes an entry. It is on the disk when this returns."""
        with self._database.writing() as connection:
            write_entry(connection, self._clock(), actor, action, target, details=details, result=result)

    def page(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Returns a page of entries, newest first.

        Args:
            before: number of the last entry of the previous page.
            limit: the largest number of entries to return.
        """
        query = select(table).order_by(table.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(table.c.number < before)
        with self._database.reading() as connection:
            return [
                AuditEntry(
                    number=row.number,
                    at=row.at,
                    actor=Actor(source=AuditSource(row.source), name=row.actor, key_id=row.key_id),
                    action=row.action,
                    target=row.target,
                    details=row.details,
                    result=row.result,
                )
                for row in connection.execute(query)
            ]

    def prune(self, *, older_than_seconds: float) -> None:
        """Removes old entries, and the oldest of more than `MAX_ENTRIES`."""
        with self._database.writing() as connection:
            newest = connection.execute(select(func.max(table.c.number))).scalar() or 0
            is_old = (table.c.at < self._clock() - older_than_seconds) | (table.c.number <= newest - MAX_ENTRIES)
            connection.execute(delete(table).where(is_old))


def write_entry(
    connection: Connection,
    now: float,
    actor: Actor,
    action: str,
    target: str,
    *,
    details: Mapping[str, Any] | None = None,
    result: str = "ok",
) -> None:
    """Writes an entry in a transaction that also carries out the action."""
    entry = {
        "at": now,
        "source": actor.source.value,
        "actor": actor.name,
        "key_id": actor.key_id,
        "action": action,
        "target": _clean(target),
        "details": {
            name: _clean(value) if isinstance(value, str) else value for name, value in (details or {}).items()
        },
        "result": result,
    }
    connection.execute(insert(table).values(**entry))


def _clean(text: str) -> str:
    """Returns a text that is short enough and that every database can store."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")[:_MAX_CHARACTERS]
