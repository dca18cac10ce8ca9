"""Operations on jobs that concern the store and the storage: submission, uploads and deletion."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deployments.jobs.generation_mode import GenerationMode
from deployments.jobs.inputs import Inputs, InputUrl, Source, is_job, is_upload
from deployments.jobs.job import Job, JobState, NewJob, Priority
from deployments.jobs.limits import UNCHARGED, Account
from deployments.jobs.store import JobStore
from deployments.network.remote_files import RemoteFiles
from deployments.storage.keys import upload_key, upload_not_found
from deployments.storage.protocol import Storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import NotFound
from wan22_bridge.hashing import hash_values
from wan22_bridge.models.lora_files import find_lora
from wan22_bridge.models.lora_fit import check_fit
from wan22_bridge.models.prompt_tokens import PromptTokens
from wan22_bridge.requests import (
    GenerationRequest,
    InputImage,
    InputVideo,
    change_prompt,
    require_prompt,
    resolve_params,
)
from wan22_bridge.types import INPUTS, GenerationParams

_REQUEST_HASH = "wan22-request-1"
"""Version of the hash by which a repeated request is recognized."""


class JobService:
    """Submits and deletes jobs, and stores uploads."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        served: Sequence[ModelSpec],
        *,
        prompt_tokens: PromptTokens | None = None,
        complete: Callable[[GenerationParams], GenerationParams] = lambda params: params,
        admit: Callable[[GenerationParams], None] = lambda params: None,
        check_receiver: Callable[[str], None] = lambda url: None,
        remote_files: RemoteFiles | None = None,
        require_space: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        """Takes the store, the storage and the models.

        Args:
            store: the job store.
            storage: the storage of inputs and videos.
            served: the served models.
            prompt_tokens: counts the tokens that are cut off from a job's prompt; None leaves that unknown.
            complete: fills the service's defaults into the parameters of a request.
            admit: raises InvalidRequest for a video that no generator can make. Mock jobs are not checked.
            check_receiver: raises InvalidRequest for a receiver of webhooks to which the service may not send.
            remote_files: downloads the inputs that requests name by a URL; None if such requests are invalid.
            require_space: raises DiskFull if the disk has no space for new data of this size.
        """
        self._store = store
        self._storage = storage
        self._inputs = Inputs(store, storage, remote_files)
        self._served = served
        self._prompt_tokens = prompt_tokens
        self._complete = complete
        self._admit = admit
        self._check_receiver = check_receiver
        self._require_space = require_space

    def submit(
        self,
        request: GenerationRequest,
        *,
        seeds: Sequence[int | None] | None = None,
        image: Source | None = None,
        end_image: Source | None = None,
        video: Source | None = None,
        priority: Priority = Priority.NORMAL,
        metadata: dict[str, str] | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        body: Mapping[str, Any] | None = None,
        owner: str = "",
        only: str | None = None,
        account: Account = UNCHARGED,
    ) -> list[Job]:
        """Validates a request, stores its inputs, then its jobs. All of it is on disk when this returns.

        A repeated request with an idempotency key gets the jobs of the first one, even if the service's settings have
        changed since and would make it invalid.

        Args:
            request: the request without its inputs.
            seeds: seeds of the jobs to make from the request, None for a seed to be drawn. By default there is one job
                with the request's own seed. Several jobs are a batch: they differ in their seeds only.
            image: the first frame; a video is continued from its last frame.
            end_image: the last frame.
            video: the input of video-to-video.
            priority: jobs of a higher priority run first.
            metadata: the client's own data, returned with the job.
            webhook_url: receiver of a webhook at the job's end.
            idempotency_key: if an earlier request had the same key and was equal, its jobs are returned.
            body: the fields that the client sent, without those that equal their defaults. With an idempotency key,
                two requests are equal only if these are.
            owner: owner of the jobs and of their inputs.
            only: the only owner whose uploads and jobs the request may name; None for all.
            account: the client to whom the jobs and their inputs are charged, with its limits. Inputs that are uploads
                were charged before.

        Raises:
            InvalidRequest: the request can't be carried out; nothing was stored.
            LimitExceeded: the client has reached a limit; nothing was stored or downloaded.
            QueueFull: the queue has too many pending jobs.
            DiskFull: the disk is nearly full; nothing was stored.
            JobNotFound: an input names a job that does not exist.
            Conflict: an input names a job that has no video yet.
            NotFound: an input names a job that ended without a video.
            IdempotencyConflict: the idempotency key was used with another request.
        """
        sources = {"image": image, "end_image": end_image, "video": video}
        local, remote = _split(sources)
        request, contents = self._inputs.take(request, only=only, **local)
        requests = [request] if seeds is None else [replace(request, seed=seed) for seed in seeds]
        # A URL stands for its file, which may have changed since the first request, or be gone.
        request_hash = hash_values(_REQUEST_HASH, *requests, priority, metadata, body, *([remote] if remote else []))
        if earlier := self._find_repeated(idempotency_key, request_hash):
            return earlier
        self._check_webhook(webhook_url)
        if remote:
            self._check_before_download(account, sources, contents, new_jobs=len(requests))
            request, downloaded = self._inputs.take(request, only=only, **remote)
            contents |= downloaded
            taken = {name: getattr(request, name) for name in remote}
            requests = [replace(each, **taken) for each in requests]
        resolved = [resolve_params(each, self._served) for each in requests]
        account.limits.check_video(resolved[0])
        first = self._count_dropped_tokens(self._complete(resolved[0]))
        new = NewJob(
            params=first,
            priority=priority,
            metadata=metadata or {},
            webhook_url=webhook_url,
            idempotency_key=idempotency_key,
            request_hash=request_hash,
            source_job_id=next((source for source in (video, image) if is_job(source)), None),
            owner=owner,
            client=account.client,
        )
        batch = [replace(new, params=replace(first, seed=params.seed, segments=params.segments)) for params in resolved]
        sizes = _charged_sizes(sources, contents)
        take_uploads = self._store.usage.take_uploads
        accepted = self._accept(
            list(contents.values()), batch, lambda: take_uploads(account, sizes, new_jobs=len(batch))
        )
        return self._store.writer.submit_batch(accepted, account)

    def resolve(
        self,
        request: GenerationRequest,
        *,
        image: Source | None = None,
        end_image: Source | None = None,
        video: Source | None = None,
        webhook_url: str | None = None,
        only: str | None = None,
        account: Account = UNCHARGED,
    ) -> GenerationParams:
        """Validates a request like `submit`, and returns the parameters of its video. Nothing is stored or charged.

        An input is downloaded only if the account and the disk would allow its submission.
        """
        self._check_webhook(webhook_url)
        sources = {"image": image, "end_image": end_image, "video": video}
        local, remote = _split(sources)
        request, contents = self._inputs.take(request, only=only, **local)
        if remote:
            self._check_before_download(account, sources, contents, new_jobs=1)
            request, _ = self._inputs.take(request, only=only, **remote)
        params = self._complete(resolve_params(request, self._served))
        account.limits.check_video(params)
        self._check_loras(params)
        return params

    def remix(
        self,
        job_id: str,
        prompt: str,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        owner: str = "",
        only: str | None = None,
        account: Account = UNCHARGED,
    ) -> Job:
        """Submits a job with another prompt, and the inputs, the seed and the parameters of a completed job.

        A repeated request with an idempotency key gets the job of the first one, even if the completed job is gone.

        Args:
            job_id: id of the completed job.
            prompt: the new prompt.
            webhook_url: as in `submit`.
            idempotency_key: as in `submit`.
            owner: owner of the new job.
            only: the only owner whose job may be named; None for all.
            account: as in `submit`.

        Raises:
            InvalidRequest: the prompt is not valid, or the job's model, LoRA or input is no longer available.
            DiskFull: the disk is nearly full.
            LimitExceeded: the client has reached a limit.
            QueueFull: the queue has too many pending jobs.
            JobNotFound: the job does not exist.
            Conflict: the job has no video yet.
            NotFound: the job ended without a video.
            IdempotencyConflict: the idempotency key was used with another request.
        """
        # Without a webhook, keys of earlier versions stay valid.
        webhook = [webhook_url] if webhook_url else []
        request_hash = hash_values(_REQUEST_HASH, "remix", job_id, require_prompt(prompt), *webhook)
        if earlier := self._find_repeated(idempotency_key, request_hash):
            return earlier[0]
        self._check_webhook(webhook_url)
        job = self._store.reader.completed(job_id, owner=only)
        params = self._count_dropped_tokens(change_prompt(job.params, prompt, self._served))
        account.limits.check_video(params)
        new = NewJob(
            params=params,
            priority=job.priority,
            webhook_url=webhook_url,
            idempotency_key=idempotency_key,
            request_hash=request_hash,
            source_job_id=job.id,
            owner=owner,
            client=account.client,
        )
        [accepted] = self._accept(self._inputs.read_stored(params), [new])
        return self._store.writer.submit(accepted, account)

    def upload(self, data: bytes, *, owner: str = "", account: Account = UNCHARGED) -> InputImage | InputVideo:
        """Stores an image or a video for later requests. An upload that no job uses is removed after `upload_seconds`.

        Raises:
            InvalidRequest: the data is neither an image nor a video, or the service does not support it.
            DiskFull: the disk is nearly full.
            LimitExceeded: the client has reached a limit.
        """
        self._require_space(len(data))
        found = self._inputs.examine(data, "file")
        self._store.usage.take_uploads(account, [len(data)])
        self._storage.put_input(data)
        self._store.input_owners.record(owner, [found.key])
        return found

    def find_input(self, upload_id: str, *, only: str | None = None) -> str:
        """Returns the storage key of an upload, or of an input that came with a request.

        Raises:
            NotFound: there is no such upload, or the only owner that counts has not stored it.
        """
        key = upload_key(upload_id)
        if only is not None and not self._store.input_owners.has(only, key):
            raise upload_not_found()
        try:
            self._storage.path(key)
        except NotFound:
            raise upload_not_found() from None
        return key

    def retry(self, job_id: str, *, owner: str | None = None, account: Account = UNCHARGED) -> Job:
        """Puts a failed or cancelled job back into the queue, with its id and its parameters.

        Raises:
            JobNotFound: the job does not exist.
            JobNotRetryable: the job has not ended, or it has a video.
            InvalidRequest: the job's model, LoRA or input is no longer available, or its video fits no generator.
            LimitExceeded: the job's client has reached a limit.
            QueueFull: the queue has too many pending jobs.
            DiskFull: the disk is nearly full.
        """
        job = self._store.reader.get(job_id, owner=owner)
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            self._require_space(0)
            self._check_again(job.params)
            account.limits.check_video(job.params)
        return self._store.writer.retry(job_id, owner=owner, account=account)

    def _check_again(self, params: GenerationParams) -> None:
        """Checks the parameters of an ended job as at its submission, because the service may have changed since."""
        change_prompt(params, params.prompt, self._served)
        self._check_loras(params)
        for content in self._inputs.read_stored(params):
            self._storage.put_input(content)  # renews its age, so that the cleaning spares it
        if not params.is_mock:
            self._admit(params)

    def delete(self, job_id: str, *, even_if_running: bool = True, owner: str | None = None) -> None:
        """Deletes a job and its video. A running job is stopped.

        Raises:
            JobNotFound: the job does not exist.
            JobRunning: the job is running, and `even_if_running` is false.
        """
        self._store.writer.delete(job_id, even_if_running=even_if_running, owner=owner)
        self._storage.remove_outputs(job_id)

    def _find_repeated(self, idempotency_key: str | None, request_hash: str) -> list[Job]:
        return [] if idempotency_key is None else self._store.writer.find_repeated(idempotency_key, request_hash)

    def _check_webhook(self, webhook_url: str | None) -> None:
        if webhook_url is not None:
            self._check_receiver(webhook_url)

    def _check_before_download(
        self, account: Account, sources: Mapping[str, Source | None], contents: Mapping[str, bytes], *, new_jobs: int
    ) -> None:
        """Checks what a submission would check after the download of its inputs, as far as it is known before."""
        sizes = _charged_sizes(sources, contents)
        self._require_space(sum(sizes))
        self._store.usage.check_uploads(account, sizes, new_jobs=new_jobs)

    def _count_dropped_tokens(self, params: GenerationParams) -> GenerationParams:
        """Returns the parameters with the number of the prompt's tokens that the model cuts off, if that is known."""
        spec = next(spec for spec in self._served if spec.id == params.model)
        dropped = self._prompt_tokens.count_dropped(spec, params.prompt) if self._prompt_tokens else None
        return replace(params, prompt_tokens_dropped=dropped)

    def _accept(
        self, contents: Sequence[bytes], batch: Sequence[NewJob], take: Callable[[], None] = lambda: None
    ) -> list[NewJob]:
        """Checks the jobs of a request, stores their inputs, and returns the jobs in the present generation mode.

        The jobs differ in their seeds only, so the check of the first job holds for all, and they share the inputs.

        Args:
            contents: the inputs.
            batch: the jobs.
            take: counts the inputs before they are stored, and raises LimitExceeded if there are too many.
        """
        mode = GenerationMode.read(self._store.settings)
        self._check_loras(batch[0].params)
        if not mode.mock:
            self._admit(batch[0].params)
        self._require_space(sum(map(len, contents)))
        take()
        for content in contents:
            self._storage.put_input(content)  # renews the age of a stored input too, so that the cleaning spares it
        stored = [key for name in INPUTS if (key := getattr(batch[0].params, name))]
        self._store.input_owners.record(batch[0].owner, stored)
        return [replace(new, params=replace(new.params, is_mock=mode.mock, mock_reason=None)) for new in batch]

    def _check_loras(self, params: GenerationParams) -> None:
        spec = next(spec for spec in self._served if spec.id == params.model)
        for use in params.loras:
            check_fit(find_lora(self._storage.work.loras, use.name), spec)


def _split(sources: Mapping[str, Source | None]) -> tuple[dict[str, Source | None], dict[str, Source | None]]:
    """Returns the sources on this machine, and those on other servers."""
    remote: dict[str, Source | None] = {
        name: source for name, source in sources.items() if isinstance(source, InputUrl)
    }
    return {name: source for name, source in sources.items() if name not in remote}, remote


def _charged_sizes(sources: Mapping[str, Source | None], contents: Mapping[str, bytes]) -> list[int]:
    """Returns the sizes of the inputs to charge, in bytes: 1 for one that is not downloaded yet."""
    return [
        len(contents.get(name, b"?"))
        for name, source in sources.items()
        if source is not None and not is_upload(source)
    ]
