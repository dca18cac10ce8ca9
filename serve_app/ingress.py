"""The deployment that serves HTTP."""

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
        host = _find_host()
        needs_keys = self._settings.needs_keys(host)
        services = Services.open(self._settings, self._dispatcher, self._downloader, needs_keys=needs_keys)
        if needs_keys:
            require_first_key(services.store.keys, host)
        return make_api(services)


def _find_host() -> str | None:
    """Returns the address on which the proxies of this Ray Serve listen, however the service was started."""
    client = _get_global_client()
    assert client is not None, "a replica has a controller"
    host: str | None = client.http_config.host
    return host
