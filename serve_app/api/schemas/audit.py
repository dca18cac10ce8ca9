"""Bodies of the native API's route for the audit log."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from deployments.jobs.audit import AuditEntry, AuditSource
from serve_app.api.schemas.links import to_datetime


class AuditedAction(BaseModel):
    """A change by an administrator."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    number: int
    """Number of the entry. Later entries have larger numbers."""
    at: datetime
    source: AuditSource
    """`api` for a request, `cli` for a command on a machine of the operator."""
    actor: str
    """Owner of the API key, or user of the operating system. Empty for a request without a key."""
    key_id: str | None
    """Id of the API key; null for a request without one, and for a command."""
    action: str
    """Name of the operation, such as `delete_lora`."""
    target: str
    """Path of the request, or id of a key, a model or a job."""
    details: dict[str, Any]
    """Further values, such as the owner of the job or the new settings."""
    result: str
    """`ok`, or the status of the response, such as `HTTP 409`."""

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditedAction":
        """Describes an entry."""
        return cls(
            number=entry.number,
            at=to_datetime(entry.at),
            source=entry.actor.source,
            actor=entry.actor.name,
            key_id=entry.actor.key_id,
            action=entry.action,
            target=entry.target,
            details=dict(entry.details),
            result=entry.result,
        )


class AuditPage(BaseModel):
    """A page of the audit log, newest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    actions: list[AuditedAction]
    has_more: bool
    """Whether older entries follow after this page."""
