"""The deployment that moves jobs: claims the next one, follows its generator, writes what happens into the store."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.jobs.job import Job, JobState, LeaseLost
from deployments.jobs.service import JobService
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Completed, Failed, Message
from deployments.scheduling import Slots, choose_next
from deployments.storage import Storage
from wan22_bridge.errors import GenerationFailed
from wan22_bridge.types import ModelType

logger = logging.getLogger("ray.serve")

RECLAIM_SECONDS = 1.0
TIDY_SECONDS = 3600.0
PENDING_SEEN = 200
"""How many pending jobs the scheduler looks at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatcherConfig:
    """How jobs are moved."""

    slots: Slots
    lease_seconds: float
    """A job whose dispatcher is silent for so long goes to another."""
    max_attempts: int
    """A job that took its process down so often fails."""
    start_timeout_seconds: float
    """How long a generator may take to begin a job, its replica's start included."""


_INTERRUPTED = GenerationFailed(
    "The process that ran the job died each time it was tried.",
    code="interrupted",
    suggestions=["Lower the resolution or the number of frames: it may have run out of memory."],
    can_retry=True,
).to_dict()


class Dispatcher:
    """The loop between the store and the generators.

    Serve constructs it in its event loop, where the loop then runs. Two may run at once for a moment, when Serve
    replaces one: claims are atomic, leases and fencing tokens keep the other's jobs safe, and the number of running
    jobs is counted in the store.
    """

    def __init__(
        self,
        store_url: str,
        data_dir: Path,
        config: DispatcherConfig,
        generators: Mapping[ModelType, DeploymentHandle[Any]],
    ) -> None:
        self._config = config
        self._store = JobStore(store_url)
        self._storage = Storage(data_dir)
        self._service = JobService(self._store, self._storage, ())
        self._changes = self._store.database.watch()
        self._generators = generators
        self._following: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def check_health(self) -> None:
        """Fails once the loop has ended; Serve then replaces this replica."""
        if self._loop.done():
            raise RuntimeError("The dispatcher's loop has ended.") from self._loop.exception()

    async def __del__(self) -> None:
        """Gives back what runs, as a shutdown does: it continues elsewhere, and its attempt is not counted."""
        self._loop.cancel()
        for task in self._following:
            task.cancel()
        await asyncio.gather(self._loop, *self._following, return_exceptions=True)

    async def _run(self) -> None:
        reclaimed = tidied = float("-inf")
        while True:
            now = time.monotonic()
            try:
                if now - reclaimed >= RECLAIM_SECONDS:
                    reclaimed = now
                    await asyncio.to_thread(self._reclaim)
                if now - tidied >= TIDY_SECONDS:
                    tidied = now
                    await asyncio.to_thread(self._service.tidy)
                job = await asyncio.to_thread(self._claim_next)
            except Exception:
                logger.exception("The store did not answer", extra={"action": "store_failed"})
                await asyncio.sleep(RECLAIM_SECONDS)
                continue
            if job is None:
                await self._wait()
                continue
            logger.info("Job claimed", extra={"action": "job_claimed", "job_id": job.id, "attempt": job.attempt})
            task = asyncio.create_task(self._follow(job))
            self._following.add(task)
            task.add_done_callback(self._unfollow)

    def _unfollow(self, task: "asyncio.Task[None]") -> None:
        self._following.discard(task)
        self._freed.set()

    async def _wait(self) -> None:
        """Until it is worth asking the store again: a slot became free, or, with one free, the store has changed."""
        self._freed.clear()
        full = len(self._following) >= self._config.slots.total
        deadline = time.monotonic() + RECLAIM_SECONDS
        while time.monotonic() < deadline and (full or not self._changes.changed()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), RECLAIM_SECONDS if full else self._changes.interval_seconds)
                return

    def _reclaim(self) -> None:
        for job in self._store.reclaim_expired(max_attempts=self._config.max_attempts, error=_INTERRUPTED):
            logger.warning(
                "Job reclaimed from a dead process",
                extra={"action": "job_reclaimed", "job_id": job.id, "state": job.state.value},
            )

    def _claim_next(self) -> Job | None:
        pending = self._store.page(states=[JobState.PENDING], limit=PENDING_SEEN, newest_first=False)
        if not pending:
            return None
        running = self._store.page(states=[JobState.PROCESSING])
        job = choose_next(pending, running, self._config.slots)
        return job and self._store.claim(job.id, lease_seconds=self._config.lease_seconds)

    async def _follow(self, job: Job) -> None:
        """Runs one claimed job to its end, or gives it back."""
        handle = self._generators[job.params.model_type].options(stream=True, multiplexed_model_id=job.params.model)
        stream = cast(DeploymentResponseGenerator[Message], handle.generate.remote(job))
        heart = asyncio.create_task(self._keep_lease(job))
        counted = True
        try:
            await self._relay(job, stream)
            return
        except LeaseLost:
            logger.info("Job overtaken", extra={"action": "lease_lost", "job_id": job.id})
            await asyncio.to_thread(self._discard, job)
            return
        except asyncio.CancelledError:
            counted = False
        except TimeoutError:
            logger.error("No generator began the job in time", extra={"action": "start_timeout", "job_id": job.id})
        except (RayError, RayServeException):
            logger.exception("The generator died", extra={"action": "generator_died", "job_id": job.id})
        finally:
            heart.cancel()
            stream.cancel()  # type: ignore[no-untyped-call]
        await self._give_back(job, count_attempt=counted)

    async def _relay(self, job: Job, stream: "DeploymentResponseGenerator[Message]") -> None:
        """Writes what the generator says into the store until it has said how the job ended."""
        timeout: float | None = self._config.start_timeout_seconds
        while True:
            message = await asyncio.wait_for(anext(stream), timeout)
            timeout = None
            if isinstance(message, Advanced):
                await asyncio.to_thread(self._store.record_progress, job.id, job.fencing_token, message.progress)
            else:
                await asyncio.to_thread(self._end, job, message)
                return

    def _end(self, job: Job, message: Message) -> None:
        if isinstance(message, Completed):
            self._store.complete(job.id, job.fencing_token, output=message.output, result=message.result)
            self._storage.remove_outputs(job.id, keep=message.output["folder"])
            return
        if isinstance(message, Failed):
            self._store.fail(job.id, job.fencing_token, message.error)
        else:
            self._store.mark_cancelled(job.id, job.fencing_token)
        self._storage.remove_outputs(job.id)

    async def _keep_lease(self, job: Job) -> None:
        """Renews until it is cancelled, or the lease is lost, which the next write tells."""
        while True:
            await asyncio.sleep(self._config.lease_seconds / 3)
            try:
                await asyncio.to_thread(
                    self._store.renew, job.id, job.fencing_token, lease_seconds=self._config.lease_seconds
                )
            except LeaseLost:
                return

    async def _give_back(self, job: Job, *, count_attempt: bool) -> None:
        if count_attempt and job.attempt >= self._config.max_attempts:
            write = asyncio.to_thread(self._store.fail, job.id, job.fencing_token, _INTERRUPTED)
        else:
            write = asyncio.to_thread(self._store.release, job.id, job.fencing_token, count_attempt=count_attempt)
        try:
            await asyncio.shield(write)
        except LeaseLost:
            await asyncio.to_thread(self._discard, job)

    def _discard(self, job: Job) -> None:
        """Removes what this claim wrote; what another claim wrote stays."""
        self._storage.remove_claim(job.id, job.fencing_token)
