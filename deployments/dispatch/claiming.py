"""Claiming: asks the scheduler for the next jobs and claims them in the store."""

import asyncio
import logging
import time
from collections.abc import Sequence

from deployments.dispatch.config import DispatcherConfig
from deployments.dispatch.metrics import QueueMetrics
from deployments.dispatch.relays import Relays
from deployments.jobs.job import MOCK_MODEL, Job, JobState
from deployments.jobs.store import JobStore
from deployments.scheduling.costs import estimate_seconds
from deployments.scheduling.policy import Ledger, Need, Waiting
from deployments.scheduling.queue import Queue
from deployments.scheduling.slots import Slots
from wan22_bridge.types import GenerationParams

logger = logging.getLogger("ray.serve")

CONSIDERED_JOBS = 1000
"""Number of pending jobs that the scheduler considers: the first ones of the queue."""
MAX_MOCK_JOBS = 2
"""Number of mock jobs that run at once. Each encodes a video on the CPU."""
_UNKNOWN_COST_SECONDS = 60.0
"""Assumed run time of a job whose model has completed no job yet."""


class JobClaimer:
    """Claims pending jobs for the free slots and starts their relays."""

    def __init__(
        self, config: DispatcherConfig, store: JobStore, slots: Slots, relays: Relays, metrics: QueueMetrics
    ) -> None:
        self._config = config
        self._store, self._slots, self._relays, self._metrics = store, slots, relays, metrics
        self._ledger = Ledger()

    async def claim_next(self, usable_models: Sequence[str]) -> bool:
        """Claims a job for each free slot, as far as there are pending jobs, and returns whether it claimed any.

        Claims nothing while the queue is paused.

        Args:
            usable_models: models whose jobs could begin.
        """
        now = time.time()
        self._relays.update_slots()
        # Counting in the store includes the jobs of a second dispatcher, which may exist for a moment.
        running = await asyncio.to_thread(self._store.reader.count_by_model, JobState.PROCESSING)
        on_slots = sum(count for model, count in running.items() if model != MOCK_MODEL)
        free = self._slots.free(self._config.slots - on_slots)
        if not free or not usable_models or await asyncio.to_thread(self._store.queue.is_paused):
            return False
        pending = await asyncio.to_thread(self._read_pending, usable_models)
        queue = Queue(self._config.policy, self._ledger, [waiting for _, waiting in pending.values()])
        claimed = False
        for waiting, slot in queue.assign(free, now, soon=self._slots.soon(now)):
            job, _ = pending[waiting.number]
            claimed |= await self._claim(job, waiting, slot, now)
        return claimed

    async def _claim(self, pending: Job, waiting: Waiting, slot: int, now: float) -> bool:
        """Claims one job and starts its relay; returns False if the job is no longer pending."""
        lease_seconds = self._config.lease_seconds
        job = await asyncio.to_thread(self._store.runner.claim, pending.id, lease_seconds=lease_seconds)
        if job is None:
            return False
        extra = {"action": "job_claimed", "job_id": job.id, "attempt": job.attempt, "slot": slot}
        logger.info("Job %s claimed", job.id, extra=extra)
        self._metrics.claimed(job.params.model, now - job.created_at)
        self._slots.begin(slot, waiting.need, ends_at=now + waiting.cost_seconds)
        self._relays.start(job, slot)
        return True

    def _read_pending(self, models: Sequence[str]) -> dict[int, tuple[Job, Waiting]]:
        """Returns the first pending jobs of some models by number, each also in the scheduler's form."""
        jobs = self._store.reader.next_pending(models, limit=CONSIDERED_JOBS)
        history = {model: self._store.reader.run_times(model) for model in {job.params.model for job in jobs}}
        return {job.number: (job, _to_waiting(job, history[job.params.model])) for job in jobs}


class MockClaimer:
    """Claims pending mock jobs, which need no slot, and starts their relays."""

    def __init__(self, config: DispatcherConfig, store: JobStore, relays: Relays, metrics: QueueMetrics) -> None:
        self._config, self._store, self._relays, self._metrics = config, store, relays, metrics

    async def claim_next(self) -> bool:
        """Claims as many pending mock jobs as may run now, and returns whether it claimed any."""
        free = MAX_MOCK_JOBS - self._relays.mock_count
        claimed = [] if free <= 0 else await asyncio.to_thread(self._claim, free)
        for job in claimed:
            extra = {"action": "job_claimed", "job_id": job.id, "attempt": job.attempt}
            logger.info("Mock job %s claimed", job.id, extra=extra)
            self._metrics.claimed(MOCK_MODEL, time.time() - job.created_at)
            self._relays.start(job, None)
        return bool(claimed)

    def _claim(self, limit: int) -> list[Job]:
        pending = self._store.reader.next_pending([MOCK_MODEL], limit=limit)
        if not pending or self._store.queue.is_paused():
            return []
        lease_seconds = self._config.lease_seconds
        claims = [self._store.runner.claim(job.id, lease_seconds=lease_seconds) for job in pending]
        return [job for job in claims if job is not None]


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
        queue_order=job.queue_order,
    )
