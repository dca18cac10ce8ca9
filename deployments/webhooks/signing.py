"""The secret with which the service signs webhooks, and the headers of a signed webhook."""

import base64
import binascii
import secrets
from datetime import UTC, datetime

from standardwebhooks import Webhook

from deployments.jobs.stored_settings import StoredSettings

_PREFIX = "whsec_"
_BYTES = (24, 64)
"""Minimum and maximum length of a secret, from the specification."""
_NAME = "webhook_secret"
"""Name of the stored setting."""


def is_secret(text: str) -> bool:
    """Returns whether a text is a secret in the specification's form: `whsec_` and 24 to 64 bytes in base64."""
    try:
        content = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(_PREFIX) and _BYTES[0] <= len(content) <= _BYTES[1]


def read_secret(settings: StoredSettings, configured: str | None) -> str:
    """Returns the service's secret: the configured one, else the stored one, which the first call creates."""
    if configured is not None:
        return configured
    stored = settings.get(_NAME)
    if stored is None:
        stored = settings.get_or_put(_NAME, _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode())
    return str(stored)


def sign(secret: str, delivery_id: str, sent_at: datetime, payload: str) -> dict[str, str]:
    """Returns the headers of a webhook that is sent now.

    Args:
        secret: the service's secret.
        delivery_id: id of the webhook, the same in each attempt.
        sent_at: time of the attempt.
        payload: the body.
    """
    sent_at = sent_at.astimezone(UTC)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(secret).sign(delivery_id, sent_at, payload),
    }
