"""Addresses of clients, as limits count them."""

from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

from starlette.types import Scope


def find_address(scope: Scope) -> str:
    """Returns the address of a request's client: an address of IPv4, or a /64 network of IPv6.

    A user of IPv6 has a whole /64 network at least, so its addresses count as one. The address is the one that
    `ReverseProxies` has found.
    """
    client = scope.get("client")
    return _normalize(client[0]) if client else ""


@lru_cache(maxsize=4096)
def _normalize(text: str) -> str:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return text[:64]
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:  # a socket of IPv6 shows IPv4 so
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), 64), strict=False))
