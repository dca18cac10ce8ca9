"""The replicas of this application, as Serve's controller knows them."""

from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ReplicaDetails


@dataclass(frozen=True, kw_only=True, slots=True)
class Replica:
    """One process of a deployment."""

    id: str
    deployment: str
    state: str
    """STARTING, RUNNING, STOPPING and so on: Serve's `ReplicaState`."""

    @property
    def is_there(self) -> bool:
        """Whether it takes jobs, or soon will."""
        return self.state not in ("STOPPING", "STOPPED")

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no more jobs, and goes once the one that it runs has ended."""
        return self.state == "STOPPING"


def list_replicas() -> list[Replica]:
    """All of them; called within one. Serve's public status counts them only.

    Raises:
        RayError: the controller does not answer.
    """
    client: Any = _get_global_client()
    details: dict[str, Any] = client.get_serve_details()
    application = details["applications"].get(serve.get_replica_context().app_name, {})
    found = [
        (name, ReplicaDetails.model_validate(replica))
        for name, deployment in application.get("deployments", {}).items()
        for replica in deployment["replicas"]
    ]
    return [Replica(id=replica.replica_id, deployment=name, state=replica.state.value) for name, replica in found]
