"""The relays of all jobs that this dispatcher runs, and the leases of these jobs."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.dispatch.config import DispatcherConfig
from deployments.dispatch.ending import ClaimEnding
from deployments.dispatch.metrics import QueueMetrics
from deployments.dispatch.mocking import MockGenerator
from deployments.dispatch.relay import JobRelay, calls
from deployments.jobs.job import Job, LeaseLost, scheduled_model
from deployments.jobs.store import JobStore
from deployments.scheduling.slots import Slots
from deployments.storage.protocol import Storage
from wan22_bridge.types import ModelType

logger = logging.getLogger("ray.serve")

UNAVAILABLE_SECONDS = 10.0
"""A model type gets no jobs for this long after its deployment could not start."""


class Relays:
    """Starts a relay for each claimed job, renews its lease, and records its end."""

    def __init__(
        self,
        config: DispatcherConfig,
        store: JobStore,
        storage: Storage,
        generators: Mapping[ModelType, DeploymentHandle[Any]],
        slots: Slots,
        metrics: QueueMetrics,
    ) -> None:
        self.wake = asyncio.Event()
        """Wakes the dispatcher's loop, because a slot became free or the relays were stopped."""
        self._config = config
        self._store, self._storage = store, storage
        self._generate = {kind: calls(handle) for kind, handle in generators.items()}
        self._mocks = MockGenerator(store, storage)
        self._slots, self._metrics = slots, metrics
        self._tasks: dict[asyncio.Task[None], tuple[JobRelay, int | None]] = {}
        """The relay and the slot number of each running task; None for mock jobs, which need no slot."""
        self._unavailable_until: dict[ModelType, float] = {}
        self._stopping = False

    @property
    def all(self) -> list[JobRelay]:
        """The relays of the running jobs."""
        return [relay for relay, _ in self._tasks.values()]

    @property
    def are_full(self) -> bool:
        """Whether as many jobs run here as may run at once."""
        return len(self.on_slots) >= self._config.slots

    @property
    def on_slots(self) -> list[JobRelay]:
        """The relays of the running jobs that need a slot: all but the mock jobs."""
        return [relay for relay, slot in self._tasks.values() if slot is not None]

    @property
    def mock_count(self) -> int:
        """Number of running mock jobs."""
        return len(self._tasks) - len(self.on_slots)

    def start(self, job: Job, slot: int | None) -> None:
        """Starts the relay of a claimed job; a mock job has no slot."""
        ending = ClaimEnding(job, self._store, self._storage, max_attempts=self._config.max_attempts)
        generate = self._mocks.generate if job.params.is_mock else self._generate[job.params.model_type]
        timeout_seconds = self._config.start_timeout_seconds
        relay = JobRelay(job, self._store, ending, generate, start_timeout_seconds=timeout_seconds)
        if self._stopping:
            relay.stop()
        task = asyncio.create_task(relay.run())
        self._tasks[task] = relay, slot
        task.add_done_callback(self._record_end)

    def stop(self) -> None:
        """Stops the relays, and those that start from now on."""
        self._stopping = True
        for relay in self.all:
            relay.stop()
        self.wake.set()

    async def wait(self) -> None:
        """Waits until all relays have ended. Never cancels one, so that the effect of each write is known."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_available(self, model_type: ModelType) -> bool:
        """Returns whether the deployment of a model type is believed to be able to start."""
        return self._unavailable_until.get(model_type, 0.0) <= time.monotonic()

    def update_slots(self) -> None:
        """Updates the expected ends of the running jobs on their slots."""
        for relay, slot in self._tasks.values():
            if slot is not None and relay.ends_at is not None:
                self._slots.expect(slot, ends_at=relay.ends_at)

    async def renew_leases(self) -> None:
        """Renews the leases of the running jobs, and then puts jobs with an expired lease back into the queue.

        The order matters: after the clock has jumped ahead, as on a machine that slept, the jobs that run here look
        expired as well.
        """
        relays = self.all
        renewed = await asyncio.to_thread(self._renew_and_reclaim, [relay.job for relay in relays])
        for relay, job in zip(relays, renewed, strict=True):
            if job is None or (job.cancel_requested and not relay.begun):
                relay.stop()

    def _renew_and_reclaim(self, running: Sequence[Job]) -> list[Job | None]:
        """Returns the running jobs as they are now, with None for each lost lease."""
        renewed: list[Job | None] = []
        for job in running:
            try:
                renewed.append(self._store.runner.renew(job.id, job.fencing_token, self._config.lease_seconds))
            except LeaseLost:
                renewed.append(None)
        for job in self._store.runner.reclaim_expired(max_attempts=self._config.max_attempts):
            extra = {"action": "job_reclaimed", "job_id": job.id, "state": job.state.value}
            logger.warning("Job %s was reclaimed from a dead process", job.id, extra=extra)
        return renewed

    def _record_end(self, task: "asyncio.Task[None]") -> None:
        relay, slot = self._tasks.pop(task)
        job = relay.job
        self._metrics.ended(scheduled_model(job.params), relay.ending.outcome, relay.ending.timings)
        if slot is not None:
            self._slots.end(slot, holds=relay.ended, load_seconds=relay.load_seconds)
        if relay.unavailable:
            self._unavailable_until[job.params.model_type] = time.monotonic() + UNAVAILABLE_SECONDS
        if not task.cancelled() and (error := task.exception()) is not None:
            extra = {"action": "relay_failed", "job_id": job.id}
            logger.error("The relay of job %s failed", job.id, exc_info=error, extra=extra)
        self.wake.set()
