"""One attempt to deliver a webhook over HTTP."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version

import httpcore
import httpx

from deployments.jobs.deliveries import Delivery
from deployments.network.connecting import CheckedNetwork, PrivateAddress
from deployments.webhooks.signing import sign

_USER_AGENT = f"wan22-serve/{version('wan22-serve')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Result of an attempt."""

    status: int | None = None
    """HTTP status of the response; None if there was none."""
    error: str | None = None
    """Reason why the attempt failed; None if the receiver has accepted the webhook."""
    retry_after: str | None = None
    """The response's header of this name."""

    @property
    def is_final(self) -> bool:
        """Whether the receiver wants no further attempt."""
        return self.status == HTTPStatus.GONE


class Sender:
    """Sends webhooks. It follows no redirects, uses no proxy, and reads no bodies of responses."""

    def __init__(self, resolvers: Executor, *, allow_private: bool, timeout_seconds: float) -> None:
        """Prepares connections.

        Args:
            resolvers: threads that wait for name servers.
            allow_private: whether receivers may have private addresses.
            timeout_seconds: time limit of a whole attempt.
        """
        self._timeout_seconds = timeout_seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=0,
            network_backend=CheckedNetwork(resolvers, allow_private=allow_private),
        )

    async def send(self, delivery: Delivery, secret: str) -> Outcome:
        """Makes one attempt. Every failure is an outcome."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(delivery, secret)
        except TimeoutError:
            return Outcome(error=f"The receiver did not respond within {self._timeout_seconds:g} s.")
        except PrivateAddress as exc:
            return Outcome(error=f"Private addresses are not allowed: {exc}.")
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as exc:
            return Outcome(error=f"The receiver can't be reached: {str(exc)[:200] or type(exc).__name__}.")
        except httpcore.ProtocolError as exc:
            return Outcome(error=f"The receiver's response is not valid HTTP: {str(exc)[:200]}.")

    async def _post(self, delivery: Delivery, secret: str) -> Outcome:
        headers = {"content-type": "application/json", "user-agent": _USER_AGENT}
        headers |= sign(secret, delivery.id, datetime.now(UTC), delivery.payload)
        url = httpx.URL(delivery.url)
        headers["host"] = url.netloc.decode("ascii")  # httpcore would leave out the brackets of an IPv6 address
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        async with self._pool.stream(
            "POST",
            target,
            headers=list(headers.items()),
            content=delivery.payload.encode(),
            extensions={"timeout": {"connect": self._timeout_seconds}},
        ) as response:
            return _judge(response)


def _judge(response: httpcore.Response) -> Outcome:
    status = response.status
    if 200 <= status < 300:
        return Outcome(status=status)
    error = f"The receiver responded with status {status}."
    if 300 <= status < 400:
        error += " Redirects are not followed."
    if status == HTTPStatus.GONE:
        error += " It wants no further attempt for this webhook."
    found = next((value for name, value in response.headers if name.lower() == b"retry-after"), None)
    return Outcome(status=status, error=error, retry_after=None if found is None else found.decode("latin-1"))
