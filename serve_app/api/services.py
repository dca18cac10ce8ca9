"""What the routes work with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends
from ray.serve.handle import DeploymentHandle
from starlette.requests import HTTPConnection

from deployments.jobs.replica_registry import ReplicaRegistry
from deployments.jobs.service import JobService
from deployments.jobs.store import JobStore
from deployments.storage.opening import open_storage
from deployments.storage.protocol import Storage
from serve_app.settings import Settings
from wan22_bridge.catalogue import ModelSpec

_PATIENCE_SECONDS = 10.0
"""How long a bucket is tried for a client that waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """The parts behind the API, in one ingress replica."""

    settings: Settings
    store: JobStore
    storage: Storage
    jobs: JobService
    served: Sequence[ModelSpec]
    replicas: ReplicaRegistry
    dispatcher: DeploymentHandle[Any]
    downloader: DeploymentHandle[Any]

    @classmethod
    def open(
        cls, settings: Settings, dispatcher: DeploymentHandle[Any], downloader: DeploymentHandle[Any]
    ) -> "Services":
        """Opens the database and the storage of absolute settings."""
        assert settings.database_url is not None
        store = JobStore(settings.database_url)
        storage = open_storage(settings.data_dir, settings.storage_url, patience_seconds=_PATIENCE_SECONDS)
        served = settings.served_models()
        return cls(
            settings=settings,
            store=store,
            storage=storage,
            jobs=JobService(store, storage, served),
            served=served,
            replicas=ReplicaRegistry(store.database),
            dispatcher=dispatcher,
            downloader=downloader,
        )


def services(connection: HTTPConnection) -> Services:
    """The services of the application that serves this connection."""
    return cast(Services, connection.app.state.services)


Serving = Annotated[Services, Depends(services)]
"""A route's argument that gets them."""
