"""A connection of the command line to a service, and its errors."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpx

_RECONNECT_SECONDS = 60.0
"""Maximum time to wait for a service that does not respond."""


class ClientError(Exception):
    """The service rejected the request, or cannot be reached."""

    def __init__(self, message: str, *, suggestions: Iterable[object] = (), invalid: bool = False) -> None:
        """Creates the error.

        Args:
            message: what failed.
            suggestions: what to do instead, a sentence each.
            invalid: whether the request was wrong, rather than the service or the connection.
        """
        super().__init__(message)
        self.suggestions = [str(suggestion) for suggestion in suggestions]
        self.invalid = invalid


class Connection:
    """A connection to one service, used as a context manager."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        """Prepares a connection. The first request opens it.

        Raises:
            ClientError: `url` is not a URL, or no key can have the form of `api_key`.
        """
        self.url = url
        if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
            raise ClientError("The API key holds characters that no key has, such as spaces.", invalid=True)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(30, connect=5))
        except httpx.InvalidURL as exc:
            raise ClientError(f"{url} is not a URL: {exc}", invalid=True) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Sends a request and returns the JSON object of the answer. Call it inside `explained`.

        Args:
            method: the HTTP method.
            path: path of the route.
            **body: the body, the query and other options of the request, as httpx names them.

        Raises:
            ClientError: the service rejected the request.
        """
        response = self._http.request(method, path, **body)
        self._check(response)
        answer: dict[str, Any] = response.json()
        return answer

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """Opens an answer whose body is read piece by piece.

        Args:
            path: path of the route.
            headers: headers of the request.

        Raises:
            ClientError: the service rejected the request, or the answer broke off.
        """
        with self.explained(), self._http.stream("GET", path, headers=headers) as response:
            self._check(response)
            yield response

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of httpx, and errors from reading an unexpected answer, into ClientError."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ClientError(
                f"Cannot reach the service at {self.url}.",
                suggestions=["Start it with `wan22 serve`, or name another address with --url."],
            ) from exc
        except UnicodeEncodeError as exc:
            raise ClientError("The prompt is not valid UTF-8.", invalid=True) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise ClientError(f"{self.url} answered, but it is not a wan22 service.") from exc

    def _check(self, response: httpx.Response) -> None:
        """Raises the service's own error. An answer without the service's error body comes from another server."""
        if response.is_success:
            return
        response.read()
        try:
            error = response.json()["error"]
            message, suggestions = str(error["message"]), list(error["suggestions"])
        except (ValueError, KeyError, TypeError):
            raise ClientError(
                f"{self.url} answered with HTTP status {response.status_code}, but it is not a wan22 service."
            ) from None
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            suggestions = ["Give a valid key with --api-key or in WAN22_API_KEY. `wan22 keys create` makes one."]
        is_limit = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
        raise ClientError(message, suggestions=suggestions, invalid=response.is_client_error and not is_limit)


class Patience:
    """Waits for a service that does not respond: a service that restarts resumes its jobs."""

    def __init__(self) -> None:
        self._failing_since: float | None = None

    def renew(self) -> None:
        """Notes that the service has responded."""
        self._failing_since = None

    def bear(self, error: ClientError) -> None:
        """Raises an error that waiting does not cure, or that has lasted too long."""
        self._failing_since = self._failing_since or time.monotonic()
        if error.invalid or time.monotonic() - self._failing_since > _RECONNECT_SECONDS:
            raise error


def read_events(lines: Iterator[str]) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """Yields Server-Sent Events as (type, id, data). Comments are skipped."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "data" in fields:
            yield fields.get("event", "message"), fields.get("id"), json.loads(fields["data"])
        fields = {}


def flatten(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested fields under the names that a form gives them, such as `loras[0][name]`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if inside is None:
            flat[name] = value
            continue
        for path, inner in flatten({str(key): item for key, item in inside}).items():
            head, bracket, rest = path.partition("[")
            flat[f"{name}[{head}]{bracket}{rest}"] = inner
    return flat
