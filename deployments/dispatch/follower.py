"""Following one claimed job: from the call to its generator to the end of it in the store."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, cast

from ray.exceptions import RayError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from sqlalchemy.exc import SQLAlchemyError

from deployments.jobs.job import Job, JobNotFound, JobState, LeaseLost
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Begun, Completed, Failed, Message, Yielded
from deployments.storage.folder import Storage
from wan22_bridge.errors import GenerationFailed, NotReady
from wan22_bridge.types import Progress, Stage

logger = logging.getLogger("ray.serve")

INTERRUPTED = GenerationFailed(
    "The process that ran the job died each time it was tried.",
    code="interrupted",
    suggestions=["Lower the resolution or the number of frames: it may have run out of memory."],
    can_retry=True,
).to_dict()
_NOT_BEGUN = NotReady(
    "No generator began the job in time.",
    code="generator_unavailable",
    suggestions=["Make sure that a GPU is free for the model, or wait until another model's replica has gone."],
).to_dict()
_STORE_AWAY_SECONDS = 1.0


class Follower:
    """Relays one claim of a job. `stop` ends it early; nothing else does."""

    def __init__(
        self,
        job: Job,
        store: JobStore,
        storage: Storage,
        generator: DeploymentHandle[Any],
        *,
        start_timeout_seconds: float,
        max_attempts: int,
    ) -> None:
        self.job = job
        self.begun = False
        """Whether a generator has the job: from then on it looks by itself whether it is still wanted."""
        self.replica: str | None = None
        """The one that has it."""
        self.asked_to_yield = False
        """Whether it is to go on elsewhere, or later."""
        self.ended = False
        """Whether the generator has told how the job ended: it is alive, with what the job needed."""
        self.ends_at: float | None = None
        """When the job is thought to end, in seconds since the epoch; None while that is not known."""
        self.load_seconds: float | None = None
        """What went by until a generator had the model ready; None while it has not."""
        self.outcome = "interrupted"
        """What became of the claim, for statistics."""
        self.timings: dict[str, float] = {}
        """The seconds that each stage of a completed job took."""
        self.unavailable = False
        """Whether the deployment could not start."""
        self._store = store
        self._storage = storage
        self._generator = generator
        self._start_timeout_seconds = start_timeout_seconds
        self._max_attempts = max_attempts
        self._stop = asyncio.Event()
        self._claimed_at = time.time()

    def stop(self) -> None:
        """Gives the job back, or, where it was cancelled, ends it."""
        self._stop.set()

    async def run(self) -> None:
        """Follows the job to its end, or gives it back."""
        try:
            await self._relay()
        except LeaseLost:
            logger.info("Job %s was overtaken", self.job.id, extra={"action": "lease_lost", "job_id": self.job.id})
            await self._write(self._discard)

    async def _relay(self) -> None:
        extra = {"action": "generator_died", "job_id": self.job.id}
        stream: DeploymentResponseGenerator[Message] | None = None
        try:
            handle = self._generator.options(stream=True, multiplexed_model_id=self.job.params.model)
            stream = cast(DeploymentResponseGenerator[Message], handle.generate.remote(self.job))
            await self._listen(stream)
        except DeploymentUnavailableError:
            logger.exception("The generator of job %s can't start", self.job.id, extra=extra)
            self.unavailable = True
            await self._write(self._store.release, self.job.id, self.job.fencing_token, False)
        except TimeoutError:
            logger.error("No generator began job %s in time", self.job.id, extra=extra | {"action": "start_timeout"})
            await self._give_back(_NOT_BEGUN)
        except (RayError, RayServeException, StopAsyncIteration):
            logger.exception("The generator of job %s died", self.job.id, extra=extra)
            await self._give_back(INTERRUPTED)
        finally:
            if stream is not None:
                stream.cancel()  # type: ignore[no-untyped-call]

    async def _listen(self, stream: "DeploymentResponseGenerator[Message]") -> None:
        """Writes what the generator says into the store, until it has said how the job ended."""
        stop = asyncio.create_task(self._stop.wait())
        try:
            while True:
                said = asyncio.ensure_future(anext(stream))
                timeout = None if self.begun else self._start_timeout_seconds
                done, _ = await asyncio.wait({said, stop}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if said not in done:
                    said.cancel()
                    if stop not in done:
                        raise TimeoutError
                    await self._write(self._store.release, self.job.id, self.job.fencing_token, False)
                    return
                message = said.result()
                self.begun = True
                if isinstance(message, Begun):
                    self.replica = message.replica
                elif isinstance(message, Advanced):
                    self._note(message.progress)
                    job_id, token = self.job.id, self.job.fencing_token
                    await self._write(self._store.record_progress, job_id, token, message.progress)
                else:
                    self.ended = True
                    await self._write(self._end, message)
                    return
        finally:
            stop.cancel()

    def _note(self, progress: Progress) -> None:
        if self.load_seconds is None and progress.stage is not Stage.LOADING_MODEL:
            self.load_seconds = time.time() - self._claimed_at
        if progress.eta_seconds is not None:
            self.ends_at = time.time() + progress.eta_seconds

    def _end(self, message: Message) -> None:
        job_id, token = self.job.id, self.job.fencing_token
        if isinstance(message, Completed):
            self._store.complete(job_id, token, output=message.output, result=message.result)
            self.outcome, self.timings = "completed", message.result.get("timings", {})
            self._storage.remove_outputs(job_id, keep=message.output["folder"])
            return
        if isinstance(message, Yielded):
            self._store.release(job_id, token, count_attempt=False)
            self.outcome = "yielded"
            self._storage.remove_claim(job_id, token)
            return
        if isinstance(message, Failed):
            self._store.fail(job_id, token, message.error)
            self.outcome = "failed"
        else:
            self._store.mark_cancelled(job_id, token)
            self.outcome = "cancelled"
        self._storage.remove_outputs(job_id)

    async def _give_back(self, error: dict[str, Any]) -> None:
        """Puts the job back into the queue; after its last attempt it fails with `error`."""
        if self.job.attempt >= self._max_attempts:
            await self._write(self._store.fail, self.job.id, self.job.fencing_token, error)
            await asyncio.to_thread(self._storage.remove_outputs, self.job.id)
            return
        await self._write(self._store.release, self.job.id, self.job.fencing_token, True)
        await asyncio.to_thread(self._storage.remove_claim, self.job.id, self.job.fencing_token)

    def _discard(self) -> None:
        """Removes what this claim wrote, unless it is the job's video: a commit may have been answered by silence."""
        try:
            job = self._store.get(self.job.id)
        except JobNotFound:
            self._storage.remove_outputs(self.job.id)
            return
        own = self._storage.output_key(self.job.id, self.job.fencing_token)
        if job.state is not JobState.COMPLETED or job.output is None or job.output["folder"] != own:
            self._storage.remove_claim(self.job.id, self.job.fencing_token)

    async def _write(self, write: Callable[..., object], *arguments: Any) -> None:
        """Calls what uses the store, again and again while the database is away."""
        while True:
            try:
                await asyncio.to_thread(write, *arguments)
                return
            except SQLAlchemyError:
                logger.exception("The store did not answer", extra={"action": "store_failed"})
                await asyncio.sleep(_STORE_AWAY_SECONDS)
