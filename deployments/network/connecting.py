"""Connections at addresses that were checked after the name was resolved."""

import asyncio
import socket
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from ipaddress import ip_address

import httpcore

from deployments.network.addresses import is_public


class PrivateAddress(httpcore.ConnectError):
    """The name has private addresses only."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks the addresses, and connects to one of these very addresses.

    A name whose addresses change between the check and the connection (DNS rebinding) therefore reaches nothing else.
    """

    def __init__(self, resolvers: Executor, *, allow_private: bool) -> None:
        """Stores the configuration.

        Args:
            resolvers: threads that wait for the name servers.
            allow_private: whether to connect to addresses that are not public.
        """
        self._resolvers, self._allow_private = resolvers, allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Opens a connection to the first address that accepts one.

        Args:
            host: name or address.
            port: its port.
            timeout: time limit in seconds of the whole call. Each address gets an equal share of the time that is left,
                so that an address that does not respond leaves time for the next ones.
            local_address: passed on to httpcore.
            socket_options: passed on to httpcore.

        Raises:
            PrivateAddress: the name has private addresses only, and these are not allowed.
            httpcore.ConnectError: the name has no address, or none accepts connections.
            httpcore.ConnectTimeout: the last address did not respond in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        addresses = await self._resolve(host, port)
        allowed = [address for address in addresses if self._allow_private or is_public(ip_address(address))]
        if not allowed:
            # The message does not tell the addresses, because clients read it and the network's names are private too.
            raise PrivateAddress(f"{host} has no public address")
        error: Exception | None = None
        for number, address in enumerate(allowed):
            share = None if deadline is None else (deadline - time.monotonic()) / (len(allowed) - number)
            try:
                return await self._network.connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                error = exc
        assert error is not None
        raise error

    async def _resolve(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._resolvers, _get_addresses, host, port)
        except (OSError, UnicodeError) as exc:
            raise httpcore.ConnectError(f"{host} has no address") from exc
        return list(dict.fromkeys(found))


def _get_addresses(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
