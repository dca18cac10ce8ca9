"""The HTTP client behind the command line."""

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
_RECONNECT_SECONDS = 60.0
"""How long a broken stream is taken up again: a service that restarts goes on with its jobs."""


class ClientError(Exception):
    """The service refused, or can't be reached. `invalid` where the request itself was at fault."""

    def __init__(self, message: str, *, suggestions: list[str] | None = None, invalid: bool = False) -> None:
        super().__init__(message)
        self.suggestions = suggestions or []
        self.invalid = invalid


class Client:
    """Speaks the native API. Use it as a context manager."""

    def __init__(self, url: str) -> None:
        """Opens a client; it connects with the first call.

        Raises:
            ClientError: the URL is none. Every method raises it for all that can go wrong between here and there.
        """
        self._url = url
        try:
            self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(30, connect=5))
        except httpx.InvalidURL as exc:
            raise ClientError(f"{url} is not a URL: {exc}", invalid=True) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, fields: Mapping[str, Any], inputs: Mapping[str, Path]) -> str:
        """Submits a job, with images and videos by field name; returns its id."""
        with ExitStack() as stack, self._explained():
            files = {name: stack.enter_context(path.open("rb")) for name, path in inputs.items()}
            body: dict[str, Any] = {"data": _flatten(fields), "files": files} if files else {"json": dict(fields)}
            return str(self._call("POST", "/api/v1/generation/submit", **body)["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """Reads one job."""
        with self._explained():
            return self._call("GET", f"/api/v1/generation/{task_id}")

    def tasks(self, *, limit: int, status: str | None) -> list[dict[str, Any]]:
        """Reads the newest jobs."""
        query = {"limit": limit} | ({"status": status} if status else {})
        with self._explained():
            return list(self._call("GET", "/api/v1/queue", params=query)["tasks"])

    def cancel(self, task_id: str) -> str:
        """Cancels a job; returns what the service says."""
        with self._explained():
            return str(self._call("POST", f"/api/v1/queue/{task_id}/cancel")["message"])

    def models(self) -> list[dict[str, Any]]:
        """Reads the models that are served."""
        with self._explained():
            return list(self._call("GET", "/v1/models")["data"])

    def follow(self, task_id: str) -> Iterator[dict[str, Any]]:
        """Yields a job's state whenever it changes, to its end; survives a restart of the service."""
        headers: dict[str, str] = {}
        path = f"/api/v1/generation/{task_id}/events"
        failing_since: float | None = None
        while True:
            try:
                with self._explained(), self._http.stream("GET", path, headers=headers) as response:
                    self._check(response)
                    failing_since = None
                    for kind, number, data in _read_events(response.iter_lines()):
                        if number:
                            headers["Last-Event-ID"] = number
                        if kind in ("task", "task_update"):
                            yield data
                            if data["status"] in ("completed", "failed", "cancelled"):
                                return
            except ClientError as exc:
                failing_since = failing_since or time.monotonic()
                if exc.invalid or time.monotonic() - failing_since > _RECONNECT_SECONDS:
                    raise
            time.sleep(0.5)

    def download(self, task_id: str, path: Path) -> None:
        """Saves a job's video; a broken download leaves no file.

        A pipe or a device is written to as it is.

        Raises:
            OSError: the file can't be written.
        """
        target = path.resolve()
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                self._fetch(task_id, file)
            return
        descriptor, name = tempfile.mkstemp(prefix=".wan22-", dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                self._fetch(task_id, file)
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _fetch(self, task_id: str, file: IO[bytes]) -> None:
        with self._explained(), self._http.stream("GET", f"/api/v1/outputs/{task_id}/video") as response:
            self._check(response)
            for chunk in response.iter_bytes():
                file.write(chunk)

    def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        response = self._http.request(method, path, **body)
        self._check(response)
        answer: dict[str, Any] = response.json()
        return answer

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what httpx raises, and what comes of an answer that is not this service's, into ClientError."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ClientError(
                f"Can't reach the service at {self._url}.",
                suggestions=["Start it with `wan22 serve`, or name another address with --url."],
            ) from exc
        except UnicodeEncodeError as exc:
            raise ClientError("The prompt is not valid UTF-8.", invalid=True) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise ClientError(f"{self._url} answers, but not as this service does.") from exc

    def _check(self, response: httpx.Response) -> None:
        """Raises what the service says; without its error body, what answered was another, or its proxy."""
        if response.is_success:
            return
        response.read()
        try:
            error = response.json()["error"]
            message, suggestions = str(error["message"]), list(error["suggestions"])
        except (ValueError, KeyError, TypeError):
            raise ClientError(f"{self._url} answered {response.status_code}: is it this service?") from None
        raise ClientError(message, suggestions=suggestions, invalid=response.is_client_error)


def _read_events(lines: Iterator[str]) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """Server-Sent Events as (type, id, data); comments are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "data" in fields:
            yield fields.get("event", "message"), fields.get("id"), json.loads(fields["data"])
        fields = {}


def _flatten(fields: Mapping[str, Any]) -> dict[str, Any]:
    """As a form takes it: `loras[0][name]` for what is inside."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if inside is None:
            flat[name] = value
            continue
        for path, inner in _flatten({str(key): item for key, item in inside}).items():
            head, bracket, rest = path.partition("[")
            flat[f"{name}[{head}]{bracket}{rest}"] = inner
    return flat
