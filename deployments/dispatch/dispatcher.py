"""The deployment that moves jobs: claims the next one and has it followed to its end."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.dispatch.follower import INTERRUPTED, Follower
from deployments.dispatch.metrics import QueueMetrics
from deployments.dispatch.provisioning import Provisioning
from deployments.dispatch.survey import Survey
from deployments.jobs.job import Job, JobState, LeaseLost
from deployments.jobs.service import JobService
from deployments.jobs.store import JobStore
from deployments.scheduling.costs import estimate_seconds
from deployments.scheduling.policy import Ledger, Need, Policy, Waiting
from deployments.scheduling.queue import Queue
from deployments.scheduling.slots import Slots
from deployments.storage.opening import open_storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import StorageFailed
from wan22_bridge.types import GenerationParams, ModelType

logger = logging.getLogger("ray.serve")

STORE_AWAY_SECONDS = 1.0
"""How long the loop waits when the database does not answer."""
UNAVAILABLE_SECONDS = 10.0
"""How long a model type gets no job after its deployment could not start."""
LOOK_SECONDS = 1.0
"""How often the dispatcher looks around."""
TIDY_SECONDS = 3600.0
PENDING_SEEN = 1000
"""How many pending jobs the scheduler looks at: the first ones."""
_UNKNOWN_COST_SECONDS = 60.0
"""How long a job is thought to run whose model has made nothing yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DispatcherConfig:
    """How jobs are moved."""

    slots: int
    """How many jobs may run at once."""
    loaded_models: int
    """How many models a generator's replica keeps loaded."""
    shared: bool
    """Whether one deployment generates for all model types."""
    policy: Policy
    lease_seconds: float
    """A job whose dispatcher is silent for so long goes to another."""
    max_attempts: int
    """A job that took its process down so often fails."""
    start_timeout_seconds: float
    """How long a generator may take to begin a job, its replica's start included."""


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
        storage_url: str | None,
        config: DispatcherConfig,
        served: Sequence[ModelSpec],
        generators: Mapping[ModelType, DeploymentHandle[Any]],
        downloader: DeploymentHandle[Any],
    ) -> None:
        self._config = config
        self._store = JobStore(store_url)
        self._storage = open_storage(data_dir, storage_url)
        self._service = JobService(self._store, self._storage, served)
        self._changes = self._store.database.watch()
        self._served = served
        self._generators = generators
        self._provisioning = Provisioning(self._store, downloader, served)
        self._following: dict[asyncio.Task[None], tuple[Follower, int]] = {}
        """Each with its slot."""
        self._slots = Slots(config.slots, models=config.loaded_models, shared=config.shared)
        self._ledger = Ledger()
        self._metrics = QueueMetrics()
        self._survey = Survey(
            self._store,
            self._slots,
            self._provisioning,
            self._metrics,
            generators,
            most_running=config.slots,
            patience_seconds=config.policy.patience_seconds,
        )
        self._unavailable: dict[ModelType, float] = {}
        self._stopping = False
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def check_health(self) -> None:
        """Fails once the loop has ended; Serve then replaces this replica."""
        if self._loop.done():
            raise RuntimeError("The dispatcher's loop has ended.") from self._loop.exception()

    async def __del__(self) -> None:
        """Gives back what runs, as a shutdown does: it continues elsewhere, and its attempt is not counted.

        Nothing is cancelled: a write that has begun is awaited, so that what it did is known.
        """
        self._stopping = True
        self._wake.set()
        self._survey.end()
        for follower, _ in self._following.values():
            follower.stop()
        await asyncio.gather(self._loop, *self._following, return_exceptions=True)

    async def _run(self) -> None:
        beat_at = look_at = tidy_at = time.monotonic()
        while not self._stopping:
            try:
                now = time.monotonic()
                if now >= beat_at:
                    beat_at = now + self._config.lease_seconds / 5
                    await self._beat()
                if now >= tidy_at:
                    tidy_at = now + TIDY_SECONDS
                    self._tidying = asyncio.create_task(self._tidy())
                if now >= look_at:
                    look_at = now + LOOK_SECONDS
                    followers = [follower for follower, _ in self._following.values()]
                    self._survey.begin(followers, self._usable_models())
                claimed = await self._claim()
            except (SQLAlchemyError, OSError):
                logger.exception("The store did not answer", extra={"action": "store_failed"})
                await asyncio.sleep(STORE_AWAY_SECONDS)
                continue
            if not claimed:
                await self._wait(until=min(beat_at, look_at))

    async def _tidy(self) -> None:
        """Beside the loop: a bucket that is away holds it up for minutes."""
        try:
            await asyncio.to_thread(self._service.tidy)
        except (SQLAlchemyError, StorageFailed, OSError):
            logger.exception("What nobody needs could not be removed", extra={"action": "tidy_failed"})

    def _follow(self, job: Job, slot: int) -> None:
        follower = Follower(
            job,
            self._store,
            self._storage,
            self._generators[job.params.model_type],
            start_timeout_seconds=self._config.start_timeout_seconds,
            max_attempts=self._config.max_attempts,
        )
        if self._stopping:
            follower.stop()
        task = asyncio.create_task(follower.run())
        self._following[task] = follower, slot
        task.add_done_callback(self._unfollow)

    def _unfollow(self, task: "asyncio.Task[None]") -> None:
        follower, slot = self._following.pop(task)
        self._metrics.ended(follower.job.params.model, follower.outcome, follower.timings)
        self._slots.end(slot, holds=follower.ended, load_seconds=follower.load_seconds)
        if follower.unavailable:
            self._unavailable[follower.job.params.model_type] = time.monotonic() + UNAVAILABLE_SECONDS
        if not task.cancelled() and (error := task.exception()) is not None:
            extra = {"action": "follow_failed", "job_id": follower.job.id}
            logger.error("Job %s could not be followed", follower.job.id, exc_info=error, extra=extra)
        self._wake.set()

    async def _wait(self, *, until: float) -> None:
        """Until it is worth asking the store again: a slot became free, or, with one free, the store has changed."""
        full = len(self._following) >= self._config.slots
        while (left := until - time.monotonic()) > 0 and not self._wake.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if full else min(left, self._changes.interval_seconds)):
                    await self._wake.wait()
            if not full and self._changes.changed():
                break
        self._wake.clear()

    async def _beat(self) -> None:
        """Renews the leases of what runs here, and only then takes back what ran out: a clock that jumped ahead,
        as on a machine that slept, must not cost the own jobs their leases.
        """
        followers = [follower for follower, _ in self._following.values()]
        renewed = await asyncio.to_thread(self._renew_and_reclaim, [follower.job for follower in followers])
        for follower, job in zip(followers, renewed, strict=True):
            if job is None or (job.cancel_requested and not follower.begun):
                follower.stop()

    def _renew_and_reclaim(self, running: Sequence[Job]) -> list[Job | None]:
        """The running jobs as they are now; None for one whose lease is lost."""
        renewed: list[Job | None] = []
        for job in running:
            try:
                renewed.append(self._store.renew(job.id, job.fencing_token, self._config.lease_seconds))
            except LeaseLost:
                renewed.append(None)
        for job in self._store.reclaim_expired(max_attempts=self._config.max_attempts, error=INTERRUPTED):
            extra = {"action": "job_reclaimed", "job_id": job.id, "state": job.state.value}
            logger.warning("Job %s reclaimed from a dead process", job.id, extra=extra)
        return renewed

    async def _claim(self) -> bool:
        """Claims what the free slots are to begin, and follows each job as soon as it is claimed; whether any was."""
        now = time.time()
        for follower, slot in self._following.values():
            if follower.ends_at is not None:
                self._slots.expect(slot, ends_at=follower.ends_at)
        running = await asyncio.to_thread(self._store.count_by_model, JobState.PROCESSING)
        free = self._slots.free(self._config.slots - sum(running.values()))
        models = self._usable_models()
        if not free or not models:
            return False
        pending = await asyncio.to_thread(self._read_pending, models)
        queue = Queue(self._config.policy, self._ledger, [waiting for _, waiting in pending.values()])
        claimed = False
        for chosen, slot in queue.assign(free, now, soon=self._slots.soon(now)):
            waits, _ = pending[chosen.number]
            job = await asyncio.to_thread(self._store.claim, waits.id, lease_seconds=self._config.lease_seconds)
            if job is not None:
                extra = {"action": "job_claimed", "job_id": job.id, "attempt": job.attempt, "slot": slot}
                logger.info("Job %s claimed", job.id, extra=extra)
                self._metrics.claimed(job.params.model, now - job.created_at)
                self._slots.begin(slot, chosen.need, ends_at=now + chosen.cost_seconds)
                self._follow(job, slot)
                claimed = True
        return claimed

    def _usable_models(self) -> list[str]:
        """The models for which a job could begin."""
        now = time.monotonic()
        there = [spec for spec in self._served if self._provisioning.is_there(spec.id)]
        return [spec.id for spec in there if self._unavailable.get(spec.type, 0.0) <= now]

    def _read_pending(self, models: Sequence[str]) -> dict[int, tuple[Job, Waiting]]:
        """The first pending jobs of some models, by their numbers, and as the scheduler takes them."""
        jobs = self._store.next_pending(models, limit=PENDING_SEEN)
        history = {model: self._store.run_times(model) for model in {job.params.model for job in jobs}}
        return {job.number: (job, _to_waiting(job, history[job.params.model])) for job in jobs}


def _to_waiting(job: Job, history: Sequence[tuple[GenerationParams, float]]) -> Waiting:
    params = job.params
    cost_seconds = estimate_seconds(params, history)
    return Waiting(
        number=job.number,
        owner=job.owner,
        priority=job.priority,
        need=Need(params.model_type, params.model, tuple(sorted(use.name for use in params.loras))),
        since=job.created_at,
        cost_seconds=_UNKNOWN_COST_SECONDS if cost_seconds is None else cost_seconds,
        rank=job.rank,
    )
