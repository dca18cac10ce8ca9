"""The native API's routes for webhooks."""

from typing import Annotated

from fastapi import APIRouter, Query

from deployments.jobs.deliveries import DeliveryState
from deployments.webhooks.signing import read_secret
from serve_app.api.access.callers import NEEDS_ADMIN, Reading, Submitting
from serve_app.api.schemas.webhooks import Webhook, WebhookList, WebhookSecret, WebhookWithPayload
from serve_app.api.services import Serving

router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])


@router.get("")
def list_webhooks(
    serving: Serving,
    caller: Reading,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="Id of the last webhook of the previous page.")] = None,
    status: Annotated[
        DeliveryState | None,
        Query(description="Lists only webhooks with this status.", openapi_examples={"failed": {"value": "failed"}}),
    ] = None,
    task_id: Annotated[str | None, Query(description="Lists only the webhooks of the job with this id.")] = None,
) -> WebhookList:
    """Returns a page of webhooks, newest first.

    Each end of a job makes one webhook for each receiver. Webhooks that were delivered or have failed are listed for 30
    days. Without the scope `admin`, only webhooks to the `webhook_url` of the caller's own requests are listed.
    """
    found = serving.store.deliveries.page(state=status, job_id=task_id, after=after, limit=limit + 1, owner=caller.only)
    return WebhookList(webhooks=[Webhook.of(delivery) for delivery in found[:limit]], has_more=len(found) > limit)


@router.get("/secret", dependencies=[NEEDS_ADMIN])
def read_webhook_secret(serving: Serving) -> WebhookSecret:
    """Returns the secret with which receivers verify that a webhook comes from this service."""
    configured = serving.settings.webhooks.configured_secret()
    return WebhookSecret(secret=read_secret(serving.store.settings, configured))


@router.get("/{webhook_id}")
def read_webhook(webhook_id: str, serving: Serving, caller: Reading) -> WebhookWithPayload:
    """Returns a webhook with its payload."""
    return WebhookWithPayload.of(serving.store.deliveries.get(webhook_id, owner=caller.only))


@router.post("/{webhook_id}/replay")
def replay_webhook(webhook_id: str, serving: Serving, caller: Submitting) -> Webhook:
    """Delivers a webhook again at once, with its id and its payload, so that the receiver can recognize it.

    A webhook that was delivered or has failed gets all its attempts again. A pending one is attempted now, unless its
    attempt is due or in progress already.
    """
    return Webhook.of(serving.store.deliveries.replay(webhook_id, owner=caller.only))
