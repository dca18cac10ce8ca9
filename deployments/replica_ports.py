"""The port on which each replica of Ray Serve takes calls by gRPC."""

from typing import Any


def keep_replica_port_local() -> None:
    """Lets the replica of this process listen on the loopback interface only. Deployments call it when they start.

    Ray Serve 2.60 opens a port for calls by gRPC in each replica, on all addresses and without authentication, also
    where its calls are Ray's own, which is the default. The port unpickles what it receives, so that whoever reaches it
    can run code. Serve has no setting for its address, and opens it after the deployment's constructor.
    """
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica
    from ray.serve._private.constants import RAY_SERVE_USE_GRPC_BY_DEFAULT

    if RAY_SERVE_USE_GRPC_BY_DEFAULT:  # replicas on other machines need the port
        return

    def open_local_port(server: Any, _address: str) -> int:
        return int(add_port_to_grpc_server(server, "127.0.0.1:0"))  # type: ignore[no-untyped-call]

    replica.add_port_to_grpc_server = open_local_port  # type: ignore[attr-defined]  # replica imports it for itself
