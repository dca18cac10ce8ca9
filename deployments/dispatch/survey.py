"""Looking around, beside the loop that moves jobs: which replicas and models there are, and who is to yield."""

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

from deployments.dispatch.follower import Follower
from deployments.dispatch.metrics import QueueMetrics
from deployments.dispatch.provisioning import Provisioning
from deployments.dispatch.replicas import Replica, list_replicas
from deployments.jobs.job import JobState, LeaseLost
from deployments.jobs.store import JobStore
from deployments.scheduling.preemption import Running, choose_to_yield
from deployments.scheduling.slots import Slots
from wan22_bridge.types import ModelType

logger = logging.getLogger("ray.serve")


class Survey:
    """One look at a time. What it asks may be dead, or slow to answer: nobody waits for it."""

    def __init__(
        self,
        store: JobStore,
        slots: Slots,
        provisioning: Provisioning,
        metrics: QueueMetrics,
        generators: Mapping[ModelType, DeploymentHandle[Any]],
        *,
        most_running: int,
        patience_seconds: float,
    ) -> None:
        self._store, self._slots, self._provisioning, self._metrics = store, slots, provisioning, metrics
        self._kinds = {handle.deployment_name: kind for kind, handle in generators.items()}
        self._most_running, self._patience_seconds = most_running, patience_seconds
        self._task: asyncio.Task[None] | None = None

    def begin(self, followers: Sequence[Follower], usable_models: Sequence[str]) -> None:
        """Looks around, unless the look before is still on.

        Args:
            followers: of the jobs that run.
            usable_models: those for which a job could begin.
        """
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(followers, usable_models))

    def end(self) -> None:
        """Looks no more."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self, followers: Sequence[Follower], usable_models: Sequence[str]) -> None:
        try:
            waiting = await asyncio.to_thread(self._store.count_by_model, JobState.PENDING)
            running = await asyncio.to_thread(self._store.count_by_model, JobState.PROCESSING)
            self._metrics.show_queue(waiting, running)
            await self._provisioning.update(waiting)
            replicas = await asyncio.to_thread(list_replicas)
            await self._compare([found for found in replicas if found.deployment in self._kinds], followers)
            if len(followers) >= self._most_running and all(follower.begun for follower in followers):
                await self._preempt(followers, usable_models)
        except (SQLAlchemyError, RayError, ValueError, KeyError):
            logger.exception("The dispatcher can't look around", extra={"action": "survey_failed"})

    async def _compare(self, generators: Sequence[Replica], followers: Sequence[Follower]) -> None:
        """Forgets what replicas held that have gone; has jobs yield whose replica is leaving while others wait for it.

        The replica that Serve ends to make room for another need not be an idle one.
        """
        self._slots.see(Counter[str](self._kinds[found.deployment] for found in generators if found.is_there))
        if any(not follower.begun for follower in followers):
            leaving = {found.id for found in generators if found.is_leaving}
            for follower in followers:
                if follower.replica in leaving:
                    await self._ask_to_yield(follower, "its replica is leaving")

    async def _preempt(self, followers: Sequence[Follower], usable_models: Sequence[str]) -> None:
        first = await asyncio.to_thread(self._store.next_pending, usable_models, limit=1)
        if not first:
            return
        by_id = {follower.job.id: follower for follower in followers}
        running = [
            Running(
                id=job_id,
                priority=follower.job.priority,
                ends_at=follower.ends_at,
                given_back=follower.job.fencing_token - follower.job.attempt,
                asked=follower.asked_to_yield,
            )
            for job_id, follower in by_id.items()
        ]
        chosen = choose_to_yield(first[0].priority, running, time.time(), self._patience_seconds)
        if chosen is not None:
            await self._ask_to_yield(by_id[chosen], f"{first[0].id} has a higher priority")

    async def _ask_to_yield(self, follower: Follower, reason: str) -> None:
        if follower.asked_to_yield:
            return
        job = follower.job
        with contextlib.suppress(LeaseLost):
            await asyncio.to_thread(self._store.ask_to_yield, job.id, job.fencing_token)
            extra = {"action": "job_asked_to_yield", "job_id": job.id}
            logger.info("Job %s is to give up its slot: %s", job.id, reason, extra=extra)
            self._metrics.asked_to_yield(job.params.model)
        follower.asked_to_yield = True
