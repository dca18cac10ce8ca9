"""What the store and the storage do together: taking jobs in, and removing them with their files."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from deployments.jobs.job import Job, JobState, NewJob, Priority
from deployments.jobs.store import JobStore
from deployments.storage import Storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import InvalidRequest, NotFound
from wan22_bridge.images import check_image
from wan22_bridge.lora_files import find_lora
from wan22_bridge.requests import GenerationRequest, InputImage, resolve_params

EVENTS_KEPT_SECONDS = 24 * 3600.0
UNUSED_INPUTS_KEPT_SECONDS = 24 * 3600.0


class JobService:
    """Submits, uploads, deletes and tidies up."""

    def __init__(self, store: JobStore, storage: Storage, served: Sequence[ModelSpec]) -> None:
        self._store = store
        self._storage = storage
        self._served = served

    def submit(
        self,
        request: GenerationRequest,
        *,
        image: bytes | str | None = None,
        end_image: bytes | str | None = None,
        priority: Priority = Priority.NORMAL,
        metadata: dict[str, str] | None = None,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> Job:
        """Validates a request completely, keeps its inputs, then stores its job. All is on the disk when this returns.

        Args:
            request: what is wanted, without its images.
            image: the first frame: a file's content, or the id of an upload.
            end_image: the last frame, likewise.
            priority: the higher one goes first.
            metadata: the client's own, given back with the job.
            idempotency_key: with the same key and request, the first job is returned.
            fingerprint: what else the client's request said, for telling whether it is the same.

        Raises:
            InvalidRequest: it can't work; nothing was kept.
            IdempotencyConflict: the key came with another request before.
        """
        first, last = self._examine(image, "image"), self._examine(end_image, "end_image")
        request = replace(request, image=first, end_image=last)
        params = resolve_params(request, self._served)
        for use in params.loras:
            find_lora(self._storage.loras, use.name)
        hashed = json.dumps([asdict(request), int(priority), metadata, fingerprint], sort_keys=True)
        for content in (image, end_image):
            if isinstance(content, bytes):
                self._storage.put_input(content)
        return self._store.submit(
            NewJob(
                params=params,
                priority=priority,
                metadata=metadata or {},
                idempotency_key=idempotency_key,
                request_hash=hashlib.sha256(hashed.encode()).hexdigest(),
            )
        )

    def upload(self, data: bytes) -> InputImage:
        """Keeps an image for later requests; unused, it goes after a day.

        Raises:
            InvalidRequest: it is not an image.
        """
        width, height = check_image(data, param="file")
        return InputImage(key=self._storage.put_input(data), width=width, height=height)

    def delete(self, job_id: str) -> None:
        """Removes a job and its video; a running one is stopped.

        Raises:
            JobNotFound: there is no such job.
        """
        self._store.delete(job_id)
        self._storage.remove_outputs(job_id)

    def tidy(self) -> None:
        """Removes what nothing refers to any more: old events, unused inputs, the files of broken-off attempts."""
        self._store.events.prune(older_than_seconds=EVENTS_KEPT_SECONDS)
        self._storage.remove_old_inputs(keep=self._store.input_keys(), older_than_seconds=UNUSED_INPUTS_KEPT_SECONDS)
        for job_id in self._storage.output_jobs():
            try:
                job = self._store.get(job_id)
            except NotFound:
                self._storage.remove_outputs(job_id)
                continue
            if job.state is JobState.PENDING:
                self._storage.remove_broken_off(job_id)
            elif job.state is not JobState.PROCESSING:
                self._storage.remove_outputs(job_id, keep=job.output["folder"] if job.output else None)

    def _examine(self, image: bytes | str | None, param: str) -> InputImage | None:
        """Reads an input image and names the key that it has, or will have, in the storage."""
        if image is None:
            return None
        if isinstance(image, bytes):
            width, height = check_image(image, param=param)
            return InputImage(key=self._storage.input_key(image), width=width, height=height)
        try:
            data = self._storage.path(self._storage.upload_key(image)).read_bytes()
            self._storage.put_input(data)  # it is young again: tidying leaves it
        except NotFound:
            raise InvalidRequest(
                f"There is no upload {image[:80]!r}.",
                code="unknown_upload",
                param=f"{param}_path",
                suggestions=["Upload the image with POST /api/v1/uploads and send the id that it answers."],
            ) from None
        width, height = check_image(data, param=param)
        return InputImage(key=self._storage.upload_key(image), width=width, height=height)
