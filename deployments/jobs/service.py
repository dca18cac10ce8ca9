"""What the store and the storage do together: taking jobs in, and removing them with their files."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeGuard

from deployments.jobs.job import JOB_ID_PREFIX, Job, JobState, NewJob, Priority
from deployments.jobs.store import JobStore
from deployments.storage.keys import input_key, upload_key
from deployments.storage.protocol import Storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import Conflict, InvalidRequest, NotFound, Wan22Error
from wan22_bridge.media.images import check_image
from wan22_bridge.media.videos import check_video, is_video
from wan22_bridge.models.lora_files import find_lora
from wan22_bridge.requests import GenerationRequest, InputImage, InputVideo, change_prompt, resolve_params
from wan22_bridge.types import INPUTS

Source = bytes | str
"""An input: a file's content, or the id of an upload or of a completed job, whose video is meant."""

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
        image: Source | None = None,
        end_image: Source | None = None,
        video: Source | None = None,
        priority: Priority = Priority.NORMAL,
        metadata: dict[str, str] | None = None,
        idempotency_key: str | None = None,
        fingerprint: str = "",
    ) -> Job:
        """Validates a request completely, keeps its inputs, then stores its job. All is on the disk when this returns.

        Args:
            request: what is wanted, without its inputs.
            image: the first frame; or a video, to go on from its last one.
            end_image: the last frame.
            video: what to make anew.
            priority: the higher one goes first.
            metadata: the client's own, given back with the job.
            idempotency_key: with the same key and request, the first job is returned.
            fingerprint: what else the client's request said, for telling whether it is the same.

        Raises:
            InvalidRequest: it can't work; nothing was kept.
            JobNotFound: an input is to be the video of a job that is not there.
            Conflict: likewise, and that job has no video yet.
            IdempotencyConflict: the key came with another request before.
        """
        sources = {"image": image, "end_image": end_image, "video": video}
        contents = {name: self._read(source, name) for name, source in sources.items() if source is not None}
        request = replace(
            request,
            image=self._examine(contents["image"], "image") if "image" in contents else None,
            end_image=self._examine_image(contents["end_image"], "end_image") if "end_image" in contents else None,
            video=self._examine_video(contents["video"], "video") if "video" in contents else None,
        )
        return self._keep(
            contents.values(),
            NewJob(
                params=resolve_params(request, self._served),
                priority=priority,
                metadata=metadata or {},
                idempotency_key=idempotency_key,
                request_hash=_hash(asdict(request), int(priority), metadata, fingerprint),
                source_job_id=next((source for source in (video, image) if _is_job(source)), None),
            ),
        )

    def remix(self, job_id: str, prompt: str, *, idempotency_key: str | None = None) -> Job:
        """Submits a completed job anew with another prompt, everything else and the seed being the same.

        Raises:
            InvalidRequest: the prompt, or what the job was made with, can't be used (any more).
            JobNotFound: there is no such job.
            Conflict: it has no video yet.
            NotFound: it has none, and never will.
            IdempotencyConflict: the key came with another request before.
        """
        job = self.completed(job_id)
        params = change_prompt(job.params, prompt, self._served)
        keys = [key for name in INPUTS if (key := getattr(params, name))]
        return self._keep(
            [self._storage.path(key).read_bytes() for key in keys],
            NewJob(
                params=params,
                priority=job.priority,
                idempotency_key=idempotency_key,
                request_hash=_hash("remix", job.id, params.prompt),
                source_job_id=job.id,
            ),
        )

    def upload(self, data: bytes) -> InputImage | InputVideo:
        """Keeps an image or a video for later requests; unused, it goes after a day.

        Raises:
            InvalidRequest: it is neither.
        """
        found = self._examine(data, "file")
        self._storage.put_input(data)
        return found

    def completed(self, job_id: str) -> Job:
        """Reads a job that has a video.

        Raises:
            JobNotFound: there is no such job.
            Conflict: it has no video yet.
            NotFound: it will never have one.
        """
        job = self._store.reader.get(job_id)
        if job.state is JobState.COMPLETED:
            return job
        if job.state.ended:
            raise NotFound(
                f"The job {job.state} and has no video." if job.state is JobState.FAILED else "The job was cancelled.",
                code="video_not_available",
            )
        raise Conflict(
            f"The video is not there yet: its job is {job.state}, at {job.progress:.0f} %.",
            code="video_not_ready",
            suggestions=[f"Watch GET /api/v1/generation/{job.id} until its status is completed."],
            can_retry=True,
        )

    def delete(self, job_id: str) -> None:
        """Removes a job and its video; a running one is stopped.

        Raises:
            JobNotFound: there is no such job.
        """
        self._store.writer.delete(job_id)
        self._storage.remove_outputs(job_id)

    def tidy(self) -> None:
        """Removes what nothing refers to any more: old events, unused inputs, the files of broken-off attempts."""
        self._store.events.prune(older_than_seconds=EVENTS_KEPT_SECONDS)
        self._storage.remove_old_inputs(
            keep=self._store.reader.input_keys(), older_than_seconds=UNUSED_INPUTS_KEPT_SECONDS
        )
        for job_id in self._storage.output_jobs():
            try:
                job = self._store.reader.get(job_id)
            except NotFound:
                self._storage.remove_outputs(job_id)
                continue
            if job.state.ended:
                self._storage.remove_outputs(job_id, keep=job.output["folder"] if job.output else None)

    def _keep(self, contents: Iterable[bytes], new: NewJob) -> Job:
        """Puts a job's inputs on the disk, then the job."""
        for use in new.params.loras:
            find_lora(self._storage.work.loras, use.name)
        for content in contents:
            self._storage.put_input(content)  # one that is there is young again: tidying leaves it
        return self._store.writer.submit(new)

    def _read(self, source: Source, param: str) -> bytes:
        """The content of an input."""
        if isinstance(source, bytes):
            return source
        return self._read_video_of(source, param) if _is_job(source) else self._read_upload(source, param)

    def _read_video_of(self, job_id: str, param: str) -> bytes:
        try:
            job = self.completed(job_id)
            assert job.output is not None
            return self._storage.path(f"{job.output['folder']}/{job.output['video']}").read_bytes()
        except Wan22Error as exc:
            exc.param = f"{param}_path"
            raise

    def _read_upload(self, upload_id: str, param: str) -> bytes:
        try:
            return self._storage.path(upload_key(upload_id)).read_bytes()
        except (NotFound, FileNotFoundError):
            raise InvalidRequest(
                f"There is no upload {upload_id[:80]!r}.",
                code="unknown_upload",
                param=f"{param}_path",
                suggestions=[f"Upload the {param} with POST /api/v1/uploads and send the id that it answers."],
            ) from None

    def _examine(self, data: bytes, param: str) -> InputImage | InputVideo:
        """What is known of an image or a video, under the key that it has, or will have, in the storage."""
        if is_video(data):
            return self._examine_video(data, param)
        try:
            return self._examine_image(data, param)
        except InvalidRequest as exc:
            exc.suggestions.append("Or send a video, as an mp4.")
            raise

    def _examine_image(self, data: bytes, param: str) -> InputImage:
        width, height = check_image(data, param=param)
        return InputImage(key=input_key(data), width=width, height=height)

    def _examine_video(self, data: bytes, param: str) -> InputVideo:
        return InputVideo(key=input_key(data), **asdict(check_video(data, param=param)))


def _is_job(source: Source | None) -> TypeGuard[str]:
    return isinstance(source, str) and source.startswith(JOB_ID_PREFIX)


def _hash(*parts: Any) -> str:
    """Names a request: equal for equal ones."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
