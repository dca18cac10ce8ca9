"""The HTTP client of the command line. It speaks the native API."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
_RECONNECT_SECONDS = 60.0
"""Maximum time to reconnect a broken event stream. A service that restarts resumes its jobs."""
_UPLOAD_TIMEOUT = httpx.Timeout(600, connect=5)
"""Timeout of a LoRA's upload: the service copies gigabytes after it has received them."""
_JOB_ID = re.compile(r"\w[\w.-]*", re.ASCII)
"""Job ids become file names, so an id from another server must not name a folder."""
_ENDED = ("completed", "failed", "cancelled")
"""Final states of a job or a batch."""


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


class Client:
    """A connection to one service, used as a context manager. Every method raises ClientError when it fails."""

    def __init__(self, url: str) -> None:
        """Prepares a client. The first request opens the connection.

        Raises:
            ClientError: `url` is not a URL.
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
        """Submits a job.

        Args:
            fields: the request's fields.
            inputs: the images and videos, by field name.

        Returns:
            The job's id.
        """
        with self._explained():
            return _check_id(self._submit(fields, inputs)["task_id"])

    def submit_batch(self, fields: Mapping[str, Any], inputs: Mapping[str, Path]) -> tuple[str, list[str]]:
        """Submits several jobs at once.

        Args:
            fields: the request's fields; `num_outputs` is at least 2.
            inputs: the images and videos, by field name.

        Returns:
            The batch's id, and the ids of its jobs.
        """
        with self._explained():
            answer = self._submit(fields, inputs)
            task_ids = [_check_id(task_id) for task_id in answer["task_ids"]]
            if len(task_ids) != fields["num_outputs"]:
                raise ValueError(f"{len(task_ids)} jobs were submitted")
            return str(answer["batch_id"]), task_ids

    def _submit(self, fields: Mapping[str, Any], inputs: Mapping[str, Path]) -> dict[str, Any]:
        with ExitStack() as stack:
            files = {name: stack.enter_context(path.open("rb")) for name, path in inputs.items()}
            body: dict[str, Any] = {"data": _flatten(fields), "files": files} if files else {"json": dict(fields)}
            return self._call("POST", "/api/v1/generation/submit", **body)

    def task(self, task_id: str) -> dict[str, Any]:
        """Reads one job."""
        with self._explained():
            return self._call("GET", f"/api/v1/generation/{quote(task_id, safe='')}")

    def tasks(self, *, limit: int, status: str | None) -> list[dict[str, Any]]:
        """Reads the newest jobs, newest first."""
        query = {"limit": limit} | ({"status": status} if status else {})
        with self._explained():
            return list(self._call("GET", "/api/v1/queue", params=query)["tasks"])

    def cancel(self, task_id: str) -> str:
        """Cancels a job; returns the service's message."""
        with self._explained():
            return str(self._call("POST", f"/api/v1/queue/{quote(task_id, safe='')}/cancel")["message"])

    def cancel_batch(self, batch_id: str) -> None:
        """Cancels the jobs of a batch that have not ended."""
        with self._explained():
            self._call("POST", f"/api/v1/batches/{quote(batch_id, safe='')}/cancel")

    def queue(self) -> dict[str, Any]:
        """Reads the number of jobs in each state, and whether the queue is paused."""
        with self._explained():
            return self._call("GET", "/api/v1/queue", params={"limit": 1})

    def active_tasks(self) -> list[dict[str, Any]]:
        """Reads the running jobs, and then the pending jobs in the order of the queue."""
        with self._explained():
            return list(self._call("GET", "/api/v1/queue/poll", params={"active_only": True})["tasks"])

    def set_paused(self, paused: bool) -> None:
        """Pauses or resumes the queue."""
        with self._explained():
            self._call("POST", f"/api/v1/queue/{'pause' if paused else 'resume'}")

    def reorder(self, task_ids: Sequence[str]) -> str:
        """Changes the order of pending jobs; returns the service's message."""
        with self._explained():
            return str(self._call("POST", "/api/v1/queue/reorder", json={"task_ids": list(task_ids)})["message"])

    def retry(self, task_id: str) -> dict[str, Any]:
        """Puts a failed or cancelled job back into the queue, and returns the job."""
        with self._explained():
            return self._call("POST", f"/api/v1/queue/{quote(task_id, safe='')}/retry")

    def clear_queue(self) -> str:
        """Removes ended jobs from the queue's list; returns the service's message."""
        with self._explained():
            return str(self._call("POST", "/api/v1/queue/clear")["message"])

    def delete(self, task_id: str) -> str:
        """Deletes a job that does not run, and its video; returns the service's message."""
        with self._explained():
            return str(self._call("DELETE", f"/api/v1/queue/{quote(task_id, safe='')}")["message"])

    def upload(self, path: Path) -> dict[str, Any]:
        """Uploads an image or a video; returns its description, with its id."""
        with self._explained(), path.open("rb") as file:
            return self._call("POST", "/api/v1/uploads", files={"file": (path.name, file)})

    def outputs(self, *, limit: int) -> list[dict[str, Any]]:
        """Reads the newest videos, newest first."""
        with self._explained():
            return list(self._call("GET", "/api/v1/outputs", params={"limit": limit})["videos"])

    def delete_output(self, task_id: str) -> str:
        """Deletes a video and its job; returns the service's message."""
        with self._explained():
            return str(self._call("DELETE", f"/api/v1/outputs/{quote(task_id, safe='')}")["message"])

    def loras(self) -> list[dict[str, Any]]:
        """Reads the LoRAs, sorted by name."""
        with self._explained():
            return list(self._call("GET", "/api/v1/lora/list")["loras"])

    def upload_lora(self, path: Path, fields: Mapping[str, str]) -> dict[str, Any]:
        """Uploads a LoRA; returns the service's answer."""
        with self._explained(), path.open("rb") as file:
            files = {"file": (path.name, file)}
            return self._call("POST", "/api/v1/lora/upload", data=dict(fields), files=files, timeout=_UPLOAD_TIMEOUT)

    def delete_lora(self, name: str) -> str:
        """Deletes a LoRA; returns the service's message."""
        with self._explained():
            return str(self._call("DELETE", f"/api/v1/lora/{quote(name, safe='')}")["message"])

    def models(self) -> list[dict[str, Any]]:
        """Reads the served models."""
        with self._explained():
            return list(self._call("GET", "/v1/models")["data"])

    def follow(self, task_id: str) -> Iterator[dict[str, Any]]:
        """Yields a job's state whenever the state changes, until the job ends.

        A broken stream is reopened after the last event received, also across a restart of the service.
        """
        headers: dict[str, str] = {}
        path = f"/api/v1/generation/{quote(task_id, safe='')}/events"
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
                            if data["status"] in _ENDED:
                                return
            except ClientError as exc:
                failing_since = failing_since or time.monotonic()
                if exc.invalid or time.monotonic() - failing_since > _RECONNECT_SECONDS:
                    raise
            time.sleep(0.5)

    def follow_batch(self, batch_id: str) -> Iterator[list[dict[str, Any]]]:
        """Yields the jobs of a batch twice a second, until all of them have ended.

        A service that does not respond is asked again, also across a restart.
        """
        failing_since: float | None = None
        while True:
            try:
                with self._explained():
                    batch = self._call("GET", f"/api/v1/batches/{quote(batch_id, safe='')}")
                    failing_since = None
                    yield list(batch["tasks"])
                    if batch["status"] in _ENDED:
                        return
            except ClientError as exc:
                failing_since = failing_since or time.monotonic()
                if exc.invalid or time.monotonic() - failing_since > _RECONNECT_SECONDS:
                    raise
            time.sleep(0.5)

    def video_url(self, task_id: str) -> str:
        """Returns the URL of a job's video."""
        return f"{self._url.rstrip('/')}/api/v1/outputs/{quote(task_id, safe='')}/video"

    def download(self, task_id: str, file: IO[bytes]) -> None:
        """Writes a job's video to an open file.

        Raises:
            OSError: the file cannot be written.
        """
        with self._explained(), self._http.stream("GET", self.video_url(task_id)) as response:
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
        """Turns errors of httpx, and errors from reading an unexpected answer, into ClientError."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise ClientError(
                f"Cannot reach the service at {self._url}.",
                suggestions=["Start it with `wan22 serve`, or name another address with --url."],
            ) from exc
        except UnicodeEncodeError as exc:
            raise ClientError("The prompt is not valid UTF-8.", invalid=True) from exc
        except (ValueError, KeyError, TypeError) as exc:
            raise ClientError(f"{self._url} answered, but it is not a wan22 service.") from exc

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
                f"{self._url} answered with HTTP status {response.status_code}, but it is not a wan22 service."
            ) from None
        raise ClientError(message, suggestions=suggestions, invalid=response.is_client_error)


def _check_id(task_id: object) -> str:
    if not _JOB_ID.fullmatch(str(task_id)):
        raise ValueError(f"{task_id!r} is not a job id")
    return str(task_id)


def _read_events(lines: Iterator[str]) -> Iterator[tuple[str, str | None, dict[str, Any]]]:
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


def _flatten(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested fields under the names that a form gives them, such as `loras[0][name]`."""
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
