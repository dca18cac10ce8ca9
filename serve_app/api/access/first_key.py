"""The check that a service which needs keys has one, before it starts."""

from deployments.jobs.api_keys import ApiKeys
from wan22_bridge.errors import ConfigurationError


def require_first_key(keys: ApiKeys, host: str | None) -> None:
    """Checks that somebody can use a service that needs keys.

    Args:
        keys: the stored keys.
        host: the address on which the service is to listen.

    Raises:
        ConfigurationError: no key is valid; the message says how to create one.
    """
    if keys.valid():
        return
    raise ConfigurationError(
        f"http_options.host: a service that listens on {host} needs API keys, and its database has no valid one. "
        "Create the first key with the options --config and --data-dir of the service: "
        "`wan22 keys create --owner NAME --scope admin`. Or set allow_anonymous: true in args, if everyone who reaches "
        "the port may do everything.",
        param="http_options.host",
    )
