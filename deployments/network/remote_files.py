"""Files on servers that clients name by an http or https URL."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

import httpcore
import httpx

from deployments.network.addresses import UnusableUrl, check_url
from deployments.network.connecting import CheckedNetwork, PrivateAddress

MAX_REDIRECTS = 5
"""Maximum number of redirects that are followed for a file."""
TIMEOUT_SECONDS = 30.0
"""Time limit of a download, with all of its redirects."""
_CONNECT_SECONDS = 10.0
_RESOLVERS = 32
"""Maximum number of threads that wait for name servers. A thread can't be stopped at the download's time limit."""
_UNUSABLE_TARGET = "redirects to a URL that can't be used: expected https or http and a public address."
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    "accept": "image/png, image/jpeg, image/webp, video/mp4, */*;q=0.1",
    "accept-encoding": "identity",  # a compressed file could unpack to any size
    "user-agent": f"wan22-serve/{version('wan22-serve')}",
}


class Unreadable(Exception):
    """A file can't be downloaded. The text continues a sentence that begins with the URL's name."""


class RemoteFiles:
    """Downloads files from public addresses. It sends no cookies and no credentials, and uses no proxy."""

    def __init__(self, *, max_bytes: int) -> None:
        """Prepares connections.

        Args:
            max_bytes: maximum size of a file.
        """
        self._max_bytes = max_bytes
        self._ssl_context = httpx.create_ssl_context()
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="input-names")

    def read(self, url: str) -> bytes:
        """Downloads a file. Its type is not checked.

        Raises:
            Unreadable: the URL or one to which it redirects may not be used, or the server does not send the file.
        """
        return asyncio.run(self._read(url))

    async def _read(self, url: str) -> bytes:
        network = CheckedNetwork(self._resolvers, allow_private=False)
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                httpcore.AsyncConnectionPool(ssl_context=self._ssl_context, network_backend=network) as pool,
            ):
                return await self._follow(pool, url)
        except TimeoutError:
            raise Unreadable(f"names a file that did not arrive within {TIMEOUT_SECONDS:g} s.") from None
        except PrivateAddress:
            raise Unreadable("leads to a host that has no public address.") from None
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError):
            raise Unreadable("leads to a server that can't be reached.") from None
        except httpcore.ProtocolError:
            raise Unreadable("leads to a server whose response is not valid HTTP.") from None

    async def _follow(self, pool: httpcore.AsyncConnectionPool, url: str) -> bytes:
        for redirects in range(MAX_REDIRECTS + 1):
            try:
                check_url(url, allow_private=False)
            except UnusableUrl as exc:
                # The server, and not the client, has chosen a later URL.
                raise Unreadable(_UNUSABLE_TARGET if redirects else str(exc)) from None
            async with _get(pool, url) as response:
                location = _find_header(response, b"location")
                if response.status not in _REDIRECTS or location is None:
                    return await self._receive(response)
                try:
                    url = str(httpx.URL(url).join(location.decode("latin-1")))
                except (httpx.InvalidURL, ValueError):
                    raise Unreadable("redirects to something that is no URL.") from None
        raise Unreadable(f"redirects more than {MAX_REDIRECTS} times.")

    async def _receive(self, response: httpcore.Response) -> bytes:
        if response.status != 200:
            raise Unreadable(f"leads to a server that responded with status {response.status}: expected 200.")
        declared = _find_header(response, b"content-length") or b""
        content = bytearray()
        is_larger = declared.isdigit() and int(declared[:20]) > self._max_bytes
        if not is_larger:
            async for chunk in response.aiter_stream():
                content += chunk
                if is_larger := len(content) > self._max_bytes:
                    break
        if is_larger:
            raise Unreadable(f"names a file that is larger than the limit of {self._max_bytes / 1e6:g} MB.")
        return bytes(content)


def _get(pool: httpcore.AsyncConnectionPool, url: str) -> AbstractAsyncContextManager[httpcore.Response]:
    parsed = httpx.URL(url)
    # httpcore would leave out the brackets of an IPv6 address.
    headers = {"host": parsed.netloc.decode("ascii")} | _HEADERS
    target = httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)
    return pool.stream(
        "GET", target, headers=list(headers.items()), extensions={"timeout": {"connect": _CONNECT_SECONDS}}
    )


def _find_header(response: httpcore.Response, name: bytes) -> bytes | None:
    return next((value for key, value in response.headers if key.lower() == name), None)
