"""The periodic checks beside the dispatcher's loop: the disk, metrics, model downloads, replicas and preemption."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.dispatch.metrics import QueueMetrics
from deployments.dispatch.model_downloads import ModelDownloads
from deployments.dispatch.relay import JobRelay
from deployments.dispatch.replicas import Replica, read_deployments
from deployments.jobs.job import JobState, LeaseLost
from deployments.jobs.store import JobStore
from deployments.scheduling.preemption import RunningJob, choose_job_to_preempt
from deployments.scheduling.slots import Slots
from deployments.storage.disk import DiskSpace
from wan22_bridge.types import ModelType

logger = logging.getLogger("ray.serve")


class Monitor:
    """Runs one check at a time, in a task of its own.

    The dispatcher's loop never waits for a check, because the replicas and the downloader may be slow or dead.
    """

    def __init__(
        self,
        store: JobStore,
        slots: Slots,
        downloads: ModelDownloads,
        metrics: QueueMetrics,
        generators: Mapping[ModelType, DeploymentHandle[Any]],
        disk: DiskSpace,
        *,
        max_running: int,
        patience_seconds: float,
    ) -> None:
        self.unhealthy: list[str] = []
        """Names of the deployments whose replicas failed, at the last check."""
        self.disk_is_short = False
        """Whether no job should start at present, because running jobs need the rest of the disk."""
        self._disk = disk
        self._note_disk(is_short=disk.is_short)
        self._store, self._slots, self._downloads, self._metrics = store, slots, downloads, metrics
        self._kinds = {handle.deployment_name: kind for kind, handle in generators.items()}
        self._max_running, self._patience_seconds = max_running, patience_seconds
        self._task: asyncio.Task[None] | None = None

    def start_check(self, relays: Sequence[JobRelay], usable_models: Sequence[str]) -> None:
        """Starts a check, unless the previous one still runs.

        Args:
            relays: the relays of all running jobs that need a slot.
            usable_models: models whose jobs could begin.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._check(relays, usable_models))

    def stop(self) -> None:
        """Cancels the running check."""
        if self._task is not None:
            self._task.cancel()

    async def _check(self, relays: Sequence[JobRelay], usable_models: Sequence[str]) -> None:
        try:
            self._note_disk(is_short=await asyncio.to_thread(lambda: self._disk.is_short))
            pending = await asyncio.to_thread(self._store.reader.count_by_model, JobState.PENDING)
            running = await asyncio.to_thread(self._store.reader.count_by_model, JobState.PROCESSING)
            self._metrics.show_queue(pending, running)
            await self._downloads.update(pending)
            deployments = await asyncio.to_thread(read_deployments)
            self.unhealthy = deployments.unhealthy
            generators = [replica for replica in deployments.replicas if replica.deployment in self._kinds]
            alive = Counter[str](self._kinds[replica.deployment] for replica in generators if replica.is_there)
            self._slots.forget_missing(alive)
            await self._preempt_on_leaving_replicas(generators, relays)
            is_full = len(relays) >= self._max_running
            if is_full and not self.disk_is_short and all(relay.begun for relay in relays):
                await self._preempt_for_priority(relays, usable_models)
        except (SQLAlchemyError, RayError, ValueError, KeyError):
            logger.exception("The dispatcher's check failed", extra={"action": "check_failed"})

    def _note_disk(self, *, is_short: bool) -> None:
        if is_short and not self.disk_is_short:
            logger.warning("The disk is nearly full: no job starts until space is freed", extra={"action": "disk_full"})
        self.disk_is_short = is_short

    async def _preempt_on_leaving_replicas(self, generators: Sequence[Replica], relays: Sequence[JobRelay]) -> None:
        """Preempts jobs on replicas that Serve is stopping, while other jobs wait for their replicas to start.

        Serve does not necessarily choose an idle replica when it stops one to make room.
        """
        if all(relay.begun for relay in relays):
            return
        leaving = {replica.id for replica in generators if replica.is_leaving}
        for relay in relays:
            if relay.replica in leaving:
                await self._request_preemption(relay, "Serve is stopping its replica")

    async def _preempt_for_priority(self, relays: Sequence[JobRelay], usable_models: Sequence[str]) -> None:
        """Preempts a running job if the next pending job has a higher priority and the preemption pays off.

        While the queue is paused, nothing would follow the preempted job.
        """
        if await asyncio.to_thread(self._store.queue.is_paused):
            return
        pending = await asyncio.to_thread(self._store.reader.next_pending, usable_models, limit=1)
        if not pending:
            return
        next_job = pending[0]
        by_id = {relay.job.id: relay for relay in relays}
        running = [
            RunningJob(
                id=job_id,
                priority=relay.job.priority,
                ends_at=relay.ends_at,
                preemptions=relay.job.fencing_token - relay.job.attempt,
                preemption_requested=relay.preemption_requested,
            )
            for job_id, relay in by_id.items()
        ]
        chosen = choose_job_to_preempt(next_job.priority, running, time.time(), self._patience_seconds)
        if chosen is not None:
            await self._request_preemption(by_id[chosen], f"{next_job.id} has a higher priority")

    async def _request_preemption(self, relay: JobRelay, reason: str) -> None:
        if relay.preemption_requested:
            return
        job = relay.job
        with contextlib.suppress(LeaseLost):
            await asyncio.to_thread(self._store.runner.request_preemption, job.id, job.fencing_token)
            extra = {"action": "preemption_requested", "job_id": job.id}
            logger.info("Job %s is being preempted: %s", job.id, reason, extra=extra)
            self._metrics.preemption_requested(job.params.model)
        relay.preemption_requested = True
