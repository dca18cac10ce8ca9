"""URLs of webhook receivers."""

from deployments.network.addresses import UnusableUrl, check_url
from wan22_bridge.errors import InvalidRequest


def check_receiver(url: str, *, allow_private: bool) -> None:
    """Checks the URL of a receiver before it is stored. No name is resolved, so a name may still be private.

    Args:
        url: the URL.
        allow_private: whether the receiver may have an address that is not public.

    Raises:
        InvalidRequest: webhooks can't be sent to this URL.
    """
    try:
        check_url(url, allow_private=allow_private)
    except UnusableUrl as exc:
        suggestion = "Send the URL of a receiver, such as https://example.com/hook."
        if exc.has_password:
            suggestion = "Verify the signature of each webhook instead."
        if exc.is_private:
            suggestion = (
                "If the operator trusts all clients, the setting webhooks.allow_private allows private addresses."
            )
        raise InvalidRequest(
            f"webhook_url {exc}", code="webhook_url_invalid", param="webhook_url", suggestions=[suggestion]
        ) from None
