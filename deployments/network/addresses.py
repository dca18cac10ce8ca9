"""URLs that clients choose, and the addresses to which the service connects for them."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

MAX_URL_CHARACTERS = 2048
_MAX_HOST_CHARACTERS = 253
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)
_ORIGIN = re.compile(r"(?P<scheme>([a-z][a-z0-9+.-]*://)?)([^/?#]*@)?(?P<host>[^/?#]*)", re.IGNORECASE)
_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv6 addresses through which a gateway reaches IPv4 addresses, which are their last 32 bits (RFC 6052)."""
_AZURE_HOST = IPv4Address("168.63.129.16")
"""Address at which each virtual machine in Azure reaches the agent of its host. It is in a public range, but the agent
hands out the machine's configuration, as the link-local metadata services of other clouds do."""

Address = IPv4Address | IPv6Address


class UnusableUrl(ValueError):
    """A URL to which the service may not connect. The text continues a sentence that begins with the URL's name."""

    def __init__(self, problem: str, *, has_password: bool = False, is_private: bool = False) -> None:
        super().__init__(problem)
        self.has_password, self.is_private = has_password, is_private


def check_url(url: str, *, allow_private: bool) -> None:
    """Checks a URL. No name is resolved, so a name may still be private: `CheckedNetwork` checks its addresses.

    Args:
        url: the URL.
        allow_private: whether the URL may have an address that is not public.

    Raises:
        UnusableUrl: the service may not connect to this URL.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise UnusableUrl(f"has {len(url)} characters: expected at most {MAX_URL_CHARACTERS}.")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError) as exc:  # the latter for names that IDNA does not allow
        raise UnusableUrl(f"is {mask_url(url)[:80]!r}, which is no URL: {str(exc)[:100]}") from None
    if parsed.scheme not in ("http", "https"):
        raise UnusableUrl(f"has the scheme {parsed.scheme[:20]!r}: expected https or http.")
    if parsed.userinfo:
        raise UnusableUrl("has a user name or a password: expected none.", has_password=True)
    literal = _literal_address(host)
    if literal is None and (len(host) > _MAX_HOST_CHARACTERS or _HOST.fullmatch(host) is None):
        raise UnusableUrl(f"has the host {host[:80]!r}: expected a name or an IP address.")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise UnusableUrl(f"has the port {parsed.port}: expected 1 to 65535.")
    if not allow_private and _is_private(host, literal):
        raise UnusableUrl(f"has the private address {host[:80]!r}: expected a public one.", is_private=True)


def mask_url(url: str) -> str:
    """Returns a URL for people: its scheme, host and port, and `/…` for the rest, which may hold a token."""
    found = _ORIGIN.match(url)
    assert found is not None  # the pattern also matches an empty text
    rest = url[found.end() :]
    return found["scheme"] + found["host"] + ("" if rest in ("", "/") else "/…")


def is_public(address: Address) -> bool:
    """Returns whether an address belongs to a host on the public internet.

    An IPv6 address that stands for an IPv4 address is as public as that one.
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address == _AZURE_HOST)


def _literal_address(host: str) -> Address | None:
    """Returns the address that a host is, in each notation that the system's resolver accepts; None for a name."""
    if "%" in host:  # the interface of a link-local address, which has a meaning on one machine only
        return None
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.removesuffix(".")))  # also 127.1, 0x7f000001 and 2130706433
    except OSError:
        return None


def _is_private(host: str, literal: Address | None) -> bool:
    if literal is not None:
        return not is_public(literal)
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"
