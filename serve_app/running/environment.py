"""The environment variables that Ray's processes get from `wan22 serve`."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serve_app.haproxy.environment import haproxy_environment
from serve_app.settings import GENERATOR_STARTS

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray then listens on the loopback interface only, as it does by default on Windows and macOS, where it runs on one
    # machine. A cluster is started with `ray start` in place of this command.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # On a busy machine Serve's proxy takes longer to start than Serve's default of 5 s.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # A proxy that fails three checks is replaced. Serve checks each 10 s by default, and no client is served meanwhile.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # Serve takes the smaller of this number, 3 by default, and the deployment's own.
    "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": str(GENERATOR_STARTS),
    # Serve's HTTP server trusts the X-Forwarded headers of all local clients by default, and replaces their addresses.
    # The API needs the addresses to decide by its setting trusted_proxies.
    "FORWARDED_ALLOW_IPS": "",
}


@contextmanager
def ray_environment() -> Iterator[None]:
    """Sets the variables that are not set yet. They must be there before Ray is imported, which reads most of them.

    HAProxy's configuration and sockets are in a private folder while the context is open.
    """
    # The path of a socket has at most 107 characters, and the system's folder for temporary files may be far below.
    with tempfile.TemporaryDirectory(prefix="wan22-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        for name, value in (_ENVIRONMENT | haproxy_environment(Path(folder))).items():
            os.environ.setdefault(name, value)
        yield
