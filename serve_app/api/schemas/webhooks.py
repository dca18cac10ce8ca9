"""Bodies of the responses about webhooks, and the description of a job in a webhook."""

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from deployments.jobs.deliveries import Delivery
from deployments.jobs.job import Job
from deployments.network.addresses import mask_url
from serve_app.api.http.proxies import under_prefix
from serve_app.api.schemas.links import to_datetime
from serve_app.api.schemas.tasks import TaskInfo


class Webhook(BaseModel):
    """A webhook: the report of a job's end to one receiver."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """The header `webhook-id`, the same in each attempt."""
    type: Literal["video.completed", "video.failed", "video.cancelled"]
    task_id: str
    """Id of the job. That job may have been deleted."""
    url: str
    """Scheme, host and port of the receiver's URL, and `/…` for the rest, which may hold a token."""
    status: Literal["pending", "delivered", "failed"]
    """`failed` if no attempt is left, or if the receiver has responded with 410."""
    attempts: int
    """Number of attempts so far."""
    next_attempt_at: datetime | None
    """Time of the next attempt of a pending webhook. While an attempt is in progress, a time after its limit."""
    last_status: int | None
    """HTTP status of the last response; null if the last attempt had none."""
    last_error: str | None
    """Reason why the last attempt failed."""
    created_at: datetime
    """Time of the job's end."""
    delivered_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> "Webhook":
        """Describes a webhook."""
        return cls(**_describe(delivery))


class WebhookWithPayload(Webhook):
    """A webhook with the body that its receiver gets."""

    payload: dict[str, Any]
    """`type`, `timestamp`, and `data`: the job as `GET /api/v1/generation/{id}` returned it at its end."""

    @classmethod
    def of(cls, delivery: Delivery) -> "WebhookWithPayload":
        """Describes a webhook."""
        return cls(**_describe(delivery), payload=json.loads(delivery.payload))


class WebhookList(BaseModel):
    """A page of webhooks, newest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    webhooks: list[Webhook]
    has_more: bool
    """Whether more webhooks follow after this page."""


class WebhookSecret(BaseModel):
    """The secret with which receivers verify webhooks."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    secret: str
    """`whsec_`, and random bytes in base64."""


def describe_job(job: Job, *, root_path: str) -> dict[str, Any]:
    """Returns a job as the native API describes it, for the payload of a webhook.

    Args:
        job: the job.
        root_path: prefix that a reverse proxy removes from paths.
    """
    with under_prefix(root_path):
        return TaskInfo.of(job).model_dump(mode="json")


def _describe(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "type": delivery.type,
        "task_id": delivery.job_id,
        "url": mask_url(delivery.url),
        "status": delivery.state.value,
        "attempts": delivery.attempts,
        "next_attempt_at": _to_time(delivery.next_attempt_at),
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "created_at": to_datetime(delivery.created_at),
        "delivered_at": _to_time(delivery.delivered_at),
    }


def _to_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else to_datetime(seconds)
