"""The deployment that serves HTTP."""

from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.replica_ports import keep_replica_port_local
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
        """Returns the application. Ray Serve calls this once in each replica."""
        return make_api(Services.open(self._settings, self._dispatcher, self._downloader))
