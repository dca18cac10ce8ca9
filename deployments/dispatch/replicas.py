"""The replicas of this application, as Serve's controller reports them."""

from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ReplicaDetails

_UNHEALTHY = ("UNHEALTHY", "DEPLOY_FAILED")
"""States of a deployment, as Serve names them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    """One process of a deployment."""

    id: str
    deployment: str
    state: str
    """Serve's `ReplicaState`, such as STARTING, RUNNING or STOPPING."""

    @property
    def is_there(self) -> bool:
        """Whether the replica takes jobs, or will once it has started."""
        return self.state not in ("STOPPING", "STOPPED")

    @property
    def is_leaving(self) -> bool:
        """Whether the replica takes no more jobs and stops when its running job has ended."""
        return self.state == "STOPPING"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployments:
    """The deployments of this application."""

    replicas: list[Replica]
    """All replicas of all deployments."""
    unhealthy: list[str]
    """Names of the deployments whose replicas died or failed to start, until Serve has replaced them."""


def read_deployments() -> Deployments:
    """Returns the deployments of the application. Only a replica may call this.

    It uses a private interface, because Serve's public status only counts replicas.

    Raises:
        RayError: the controller does not answer.
    """
    client: Any = _get_global_client()
    details: dict[str, Any] = client.get_serve_details()
    application = details["applications"].get(serve.get_replica_context().app_name, {})
    deployments: dict[str, Any] = application.get("deployments", {})
    found = [
        (name, ReplicaDetails.model_validate(replica))
        for name, deployment in deployments.items()
        for replica in deployment["replicas"]
    ]
    return Deployments(
        replicas=[
            Replica(id=replica.replica_id, deployment=name, state=replica.state.value) for name, replica in found
        ],
        unhealthy=[name for name, deployment in deployments.items() if deployment["status"] in _UNHEALTHY],
    )
