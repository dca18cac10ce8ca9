"""The HTTP client of the command line. It speaks the native API."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

import httpx

from serve_app.cli.connection import ClientError, Connection, Patience, flatten, read_events

DEFAULT_URL = "http://127.0.0.1:8000"
_UPLOAD_TIMEOUT = httpx.Timeout(600, connect=5)
"""Timeout of a LoRA's upload: the service copies gigabytes after it has received them."""
_JOB_ID = re.compile(r"\w[\w.-]*", re.ASCII)
"""Job ids become file names, so an id from another server must not name a folder."""
_ENDED = ("completed", "failed", "cancelled")
"""Final states of a job or a batch."""


class Client:
    """The operations of one service, used as a context manager. Every method raises ClientError when it fails."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        """Prepares a client. The first request opens the connection.

        Raises:
            ClientError: `url` is not a URL, or no key can have the form of `api_key`.
        """
        self._service = Connection(url, api_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._service.__exit__(kind, error, trace)

    def submit(self, fields: Mapping[str, Any], inputs: Mapping[str, Path]) -> str:
        """Submits a job.

        Args:
            fields: the request's fields.
            inputs: the images and videos, by field name.

        Returns:
            The job's id.
        """
        with self._service.explained():
            return _check_id(self._submit(fields, inputs)["task_id"])

    def submit_batch(self, fields: Mapping[str, Any], inputs: Mapping[str, Path]) -> tuple[str, list[str]]:
        """Submits several jobs at once.

        Args:
            fields: the request's fields; `num_outputs` is at least 2.
            inputs: the images and videos, by field name.

        Returns:
            The batch's id, and the ids of its jobs.
        """
        with self._service.explained():
            answer = self._submit(fields, inputs)
            task_ids = [_check_id(task_id) for task_id in answer["task_ids"]]
            if len(task_ids) != fields["num_outputs"]:
                raise ValueError(f"{len(task_ids)} jobs were submitted")
            return str(answer["batch_id"]), task_ids

    def _submit(self, fields: Mapping[str, Any], inputs: Mapping[str, Path]) -> dict[str, Any]:
        with ExitStack() as stack:
            files = {name: stack.enter_context(path.open("rb")) for name, path in inputs.items()}
            body: dict[str, Any] = {"data": flatten(fields), "files": files} if files else {"json": dict(fields)}
            return self._service.call("POST", "/api/v1/generation/submit", **body)

    def task(self, task_id: str) -> dict[str, Any]:
        """Reads one job."""
        with self._service.explained():
            return self._service.call("GET", f"/api/v1/generation/{quote(task_id, safe='')}")

    def tasks(self, *, limit: int, status: str | None) -> list[dict[str, Any]]:
        """Reads the newest jobs, newest first."""
        query = {"limit": limit} | ({"status": status} if status else {})
        with self._service.explained():
            return list(self._service.call("GET", "/api/v1/queue", params=query)["tasks"])

    def cancel(self, task_id: str) -> str:
        """Cancels a job; returns the service's message."""
        with self._service.explained():
            return str(self._service.call("POST", f"/api/v1/queue/{quote(task_id, safe='')}/cancel")["message"])

    def cancel_batch(self, batch_id: str) -> None:
        """Cancels the jobs of a batch that have not ended."""
        with self._service.explained():
            self._service.call("POST", f"/api/v1/batches/{quote(batch_id, safe='')}/cancel")

    def queue(self) -> dict[str, Any]:
        """Reads the number of jobs in each state, and whether the queue is paused."""
        with self._service.explained():
            return self._service.call("GET", "/api/v1/queue", params={"limit": 1})

    def active_tasks(self) -> list[dict[str, Any]]:
        """Reads the running jobs, and then the pending jobs in the order of the queue."""
        with self._service.explained():
            return list(self._service.call("GET", "/api/v1/queue/poll", params={"active_only": True})["tasks"])

    def usage(self, *, days: int) -> dict[str, Any]:
        """Reads the caller's limits, and the use of the service on the last days."""
        with self._service.explained():
            return self._service.call("GET", "/api/v1/usage", params={"days": days})

    def set_paused(self, paused: bool) -> None:
        """Pauses or resumes the queue."""
        with self._service.explained():
            self._service.call("POST", f"/api/v1/queue/{'pause' if paused else 'resume'}")

    def reorder(self, task_ids: Sequence[str]) -> str:
        """Changes the order of pending jobs; returns the service's message."""
        with self._service.explained():
            return str(
                self._service.call("POST", "/api/v1/queue/reorder", json={"task_ids": list(task_ids)})["message"]
            )

    def retry(self, task_id: str) -> dict[str, Any]:
        """Puts a failed or cancelled job back into the queue, and returns the job."""
        with self._service.explained():
            return self._service.call("POST", f"/api/v1/queue/{quote(task_id, safe='')}/retry")

    def clear_queue(self) -> str:
        """Removes ended jobs from the queue's list; returns the service's message."""
        with self._service.explained():
            return str(self._service.call("POST", "/api/v1/queue/clear")["message"])

    def delete(self, task_id: str) -> str:
        """Deletes a job that does not run, and its video; returns the service's message."""
        with self._service.explained():
            return str(self._service.call("DELETE", f"/api/v1/queue/{quote(task_id, safe='')}")["message"])

    def upload(self, path: Path) -> dict[str, Any]:
        """Uploads an image or a video; returns its description, with its id."""
        with self._service.explained(), path.open("rb") as file:
            return self._service.call("POST", "/api/v1/uploads", files={"file": (path.name, file)})

    def outputs(self, *, limit: int) -> list[dict[str, Any]]:
        """Reads the newest videos, newest first."""
        with self._service.explained():
            return list(self._service.call("GET", "/api/v1/outputs", params={"limit": limit})["videos"])

    def delete_output(self, task_id: str) -> str:
        """Deletes a video and its job; returns the service's message."""
        with self._service.explained():
            return str(self._service.call("DELETE", f"/api/v1/outputs/{quote(task_id, safe='')}")["message"])

    def loras(self) -> list[dict[str, Any]]:
        """Reads the LoRAs, sorted by name."""
        with self._service.explained():
            return list(self._service.call("GET", "/api/v1/lora/list")["loras"])

    def upload_lora(self, path: Path, fields: Mapping[str, str]) -> dict[str, Any]:
        """Uploads a LoRA; returns the service's answer."""
        with self._service.explained(), path.open("rb") as file:
            files = {"file": (path.name, file)}
            return self._service.call(
                "POST", "/api/v1/lora/upload", data=dict(fields), files=files, timeout=_UPLOAD_TIMEOUT
            )

    def delete_lora(self, name: str) -> str:
        """Deletes a LoRA; returns the service's message."""
        with self._service.explained():
            return str(self._service.call("DELETE", f"/api/v1/lora/{quote(name, safe='')}")["message"])

    def audit(self, *, limit: int, before: int | None) -> list[dict[str, Any]]:
        """Reads the newest entries of the audit log, newest first."""
        query = {"limit": limit} | ({} if before is None else {"before": before})
        with self._service.explained():
            return list(self._service.call("GET", "/api/v1/audit", params=query)["actions"])

    def webhooks(self, *, limit: int, status: str | None, task_id: str | None) -> list[dict[str, Any]]:
        """Reads the newest webhooks, newest first."""
        given = {"limit": limit, "status": status, "task_id": task_id}
        query = {name: value for name, value in given.items() if value is not None}
        with self._service.explained():
            return list(self._service.call("GET", "/api/v1/webhooks", params=query)["webhooks"])

    def webhook(self, webhook_id: str) -> dict[str, Any]:
        """Reads one webhook with its payload."""
        with self._service.explained():
            return self._service.call("GET", f"/api/v1/webhooks/{quote(webhook_id, safe='')}")

    def replay_webhook(self, webhook_id: str) -> dict[str, Any]:
        """Makes the service deliver a webhook again, and returns the webhook."""
        with self._service.explained():
            return self._service.call("POST", f"/api/v1/webhooks/{quote(webhook_id, safe='')}/replay")

    def webhook_secret(self) -> str:
        """Reads the secret that signs the webhooks."""
        with self._service.explained():
            return str(self._service.call("GET", "/api/v1/webhooks/secret")["secret"])

    def models(self) -> list[dict[str, Any]]:
        """Reads the served models."""
        with self._service.explained():
            return list(self._service.call("GET", "/v1/models")["data"])

    def follow(self, task_id: str) -> Iterator[dict[str, Any]]:
        """Yields a job's state whenever the state changes, until the job ends.

        A broken stream is reopened after the last event received, also across a restart of the service.
        """
        headers: dict[str, str] = {}
        path = f"/api/v1/generation/{quote(task_id, safe='')}/events"
        patience = Patience()
        while True:
            try:
                with self._service.stream(path, headers) as response:
                    patience.renew()
                    for kind, number, data in read_events(response.iter_lines()):
                        if number:
                            headers["Last-Event-ID"] = number
                        if kind in ("task", "task_update"):
                            yield data
                            if data["status"] in _ENDED:
                                return
            except ClientError as exc:
                patience.bear(exc)
            time.sleep(0.5)

    def follow_batch(self, batch_id: str) -> Iterator[list[dict[str, Any]]]:
        """Yields the jobs of a batch twice a second, until all of them have ended.

        A service that does not respond is asked again, also across a restart.
        """
        patience = Patience()
        while True:
            try:
                with self._service.explained():
                    batch = self._service.call("GET", f"/api/v1/batches/{quote(batch_id, safe='')}")
                    patience.renew()
                    yield list(batch["tasks"])
                    if batch["status"] in _ENDED:
                        return
            except ClientError as exc:
                patience.bear(exc)
            time.sleep(0.5)

    def video_url(self, task_id: str) -> str:
        """Returns the URL of a job's video."""
        return f"{self._service.url.rstrip('/')}/api/v1/outputs/{quote(task_id, safe='')}/video"

    def download(self, task_id: str, file: IO[bytes]) -> None:
        """Writes a job's video to an open file.

        Raises:
            OSError: the file cannot be written.
        """
        with self._service.stream(self.video_url(task_id)) as response:
            for chunk in response.iter_bytes():
                file.write(chunk)


def _check_id(task_id: object) -> str:
    if not _JOB_ID.fullmatch(str(task_id)):
        raise ValueError(f"{task_id!r} is not a job id")
    return str(task_id)
