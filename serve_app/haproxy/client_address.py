"""The header in which HAProxy tells the ingress the address of each request's client.

The ingress sees HAProxy's own address. The header begins with a secret that HAProxy and the ingress have in common, so
that a client can't choose an address by sending the header itself.
"""

import hmac
import os
from collections.abc import Iterable

HEADER = "x-wan22-client"
"""Name of the header. Its value is the secret, a space and the client's address."""
SECRET_VARIABLE = "WAN22_PROXY_SECRET"
"""Environment variable of the secret. Without it no address is sent, and the header is ignored."""


def read_client(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Returns the address of the client, or None if HAProxy did not send it.

    Args:
        headers: the request's headers, with names in lower case.
    """
    secret = os.environ.get(SECRET_VARIABLE)
    if not secret:
        return None
    for name, value in headers:
        if name == HEADER.encode():
            sent, _, address = value.decode("latin-1").partition(" ")
            if address and hmac.compare_digest(sent.encode(), secret.encode()):
                return address
    return None
