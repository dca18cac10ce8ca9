"""The deployment that serves HTTP."""

import logging
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle

from deployments.replica_ports import keep_replica_port_local
from serve_app.api.access.first_key import require_first_key
from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import Settings
from wan22_bridge.media.sandbox import filters_system_calls

logger = logging.getLogger("ray.serve")


@serve.ingress()
class Ingress:
    """Serves the API from the store and the storage.

    It runs no jobs: it writes rows, which the dispatcher finds. A client that disconnects therefore cancels nothing.
    """

    def __init__(
        self, settings: Settings, dispatcher: DeploymentHandle[Any], downloader: DeploymentHandle[Any]
    ) -> None:
        keep_replica_port_local()
        self._settings = settings
        self._dispatcher = dispatcher
        self._downloader = downloader

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Returns the application. Ray Serve calls this once in each replica.

        Raises:
            ConfigurationError: the service needs API keys, and has none.
        """
        warn_without_seccomp()
        host = _find_host()
        needs_keys = self._settings.needs_keys(host)
        services = Services.open(self._settings, self._dispatcher, self._downloader, needs_keys=needs_keys)
        if needs_keys:
            require_first_key(services.store.keys, host)
        return make_api(services)


def warn_without_seccomp() -> None:
    """Logs a warning if the processes that decode files are confined by limits of resources only."""
    if not filters_system_calls():
        logger.warning(
            "The kernel has no seccomp for this architecture: only limits of resources confine the processes that "
            "decode images and videos. Accept files only from people whom you trust.",
            extra={"action": "no_seccomp"},
        )


def _find_host() -> str | None:
    """Returns the address on which the proxies of this Ray Serve listen, however the service was started."""
    client = _get_global_client()
    assert client is not None, "a replica has a controller"
    host: str | None = client.http_config.host
    return host
