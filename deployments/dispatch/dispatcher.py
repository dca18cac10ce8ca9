"""The dispatcher deployment: the loop that claims jobs, renews leases and starts the periodic checks."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.dispatch.claiming import JobClaimer, MockClaimer
from deployments.dispatch.config import DispatcherConfig
from deployments.dispatch.metrics import QueueMetrics
from deployments.dispatch.model_downloads import ModelDownloads
from deployments.dispatch.monitor import Monitor
from deployments.dispatch.recording import StatsRecorder
from deployments.dispatch.relays import Relays
from deployments.jobs.cleaning import Cleaner
from deployments.jobs.due_deletions import delete_due_videos
from deployments.jobs.store import JobStore
from deployments.replica_ports import keep_replica_port_local
from deployments.scheduling.slots import Slots
from deployments.storage.disk import DiskSpace
from deployments.storage.opening import open_storage
from deployments.webhooks.deliverer import Deliverer
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import StorageFailed
from wan22_bridge.types import ModelType

logger = logging.getLogger("ray.serve")

RETRY_SECONDS = 1.0
"""Pause of the loop after the database did not answer."""
CHECK_SECONDS = 1.0
"""Time between two checks of the monitor."""
CLEANING_SECONDS = 3600.0
"""Time between two removals of what its retention ends."""
DELETION_SECONDS = 5.0
"""Time between two deletions of the videos for which it can no longer be undone."""


class Dispatcher:
    """The loop between the store and the generators.

    Serve constructs the dispatcher in its event loop, where the dispatcher's loop then runs. When Serve replaces a
    dispatcher, two run at once for a moment. This is safe, because claims are atomic, leases and fencing tokens protect
    the other dispatcher's jobs, and the running jobs are counted in the store.
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
        keep_replica_port_local()
        store, storage = JobStore(store_url, job_ends=config.job_ends), open_storage(data_dir, storage_url)
        slots = Slots(config.slots, models=config.loaded_models, shared=config.shared)
        metrics = QueueMetrics()
        self._cleaner = Cleaner(store, storage, config.retention)
        self._cleaning: asyncio.Task[None] | None = None
        self._changes = store.database.watch()
        self._served = served
        self._downloads = ModelDownloads(store, downloader, served)
        self._relays = Relays(config, store, storage, generators, slots, metrics)
        self._claimer = JobClaimer(config, store, slots, self._relays, metrics)
        self._mock_claimer = MockClaimer(config, store, self._relays, metrics)
        self._monitor = Monitor(
            store,
            slots,
            self._downloads,
            metrics,
            generators,
            DiskSpace(data_dir, config.min_free_bytes),
            max_running=config.slots,
            patience_seconds=config.policy.patience_seconds,
        )
        self._recorder = StatsRecorder(store)
        self._deliverer = Deliverer(store, config.webhooks)
        self._deliverer.start()
        self._lease_renewal = _Interval(config.lease_seconds / 5)
        self._check = _Interval(CHECK_SECONDS)
        self._cleaning_due = _Interval(CLEANING_SECONDS)
        self._delete_videos = partial(delete_due_videos, store, storage)
        self._deletion_due = _Interval(DELETION_SECONDS)
        self._deletion: asyncio.Task[None] | None = None
        self._stopping = False
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def check_health(self) -> None:
        """Raises RuntimeError once the loop or the deliverer has ended, so that Serve replaces this replica."""
        if self._loop.done():
            raise RuntimeError("The dispatcher's loop has ended.") from self._loop.exception()
        if not self._deliverer.is_alive:
            raise RuntimeError("The deliverer of webhooks has ended.")

    async def unhealthy_deployments(self) -> list[str]:
        """Returns the names of the deployments whose replicas died or failed to start, until Serve replaced them."""
        return self._monitor.unhealthy

    async def __del__(self) -> None:
        """Puts the running jobs back into the queue without counting an attempt. Serve calls this on shutdown."""
        self._stopping = True
        self._monitor.stop()
        self._recorder.stop()
        self._relays.stop()
        await asyncio.gather(self._loop, return_exceptions=True)
        await self._relays.wait()
        await asyncio.to_thread(self._deliverer.stop)

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._do_periodic_work()
                claimed = not self._monitor.disk_is_short and await self._claim_next()
            except (SQLAlchemyError, OSError):
                logger.exception("The database did not answer", extra={"action": "store_failed"})
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not claimed:
                await self._wait(until=min(self._lease_renewal.due_at, self._check.due_at))

    async def _claim_next(self) -> bool:
        """Claims jobs for the free slots, and returns whether it claimed any."""
        claimed = await self._claimer.claim_next(self._usable_models())
        return await self._mock_claimer.claim_next() or claimed

    async def _do_periodic_work(self) -> None:
        if self._lease_renewal.is_due():
            await self._relays.renew_leases()
        if self._cleaning_due.is_due() and (self._cleaning is None or self._cleaning.done()):
            self._cleaning = asyncio.create_task(self._clean())
        if self._deletion_due.is_due() and (self._deletion is None or self._deletion.done()):
            self._deletion = asyncio.create_task(self._delete_due_videos())
        if self._check.is_due():
            self._monitor.start_check(self._relays.on_slots, self._usable_models())
            self._recorder.start()

    async def _clean(self) -> None:
        """Removes what its retention ends, in a task beside the loop because it may take minutes."""
        try:
            for cleaned in await asyncio.to_thread(self._cleaner.clean):
                if cleaned.count:
                    verb = "Found" if cleaned.kept else "Removed"
                    extra = {"action": "cleaned", "kind": cleaned.kind, "count": cleaned.count}
                    logger.info("%s %s %s", verb, cleaned.count, cleaned.kind, extra=extra)
        except (SQLAlchemyError, StorageFailed, OSError):
            logger.exception("Old data could not be removed", extra={"action": "cleaning_failed"})

    async def _delete_due_videos(self) -> None:
        """Deletes videos in a task beside the loop, because a bucket may be slow."""
        try:
            await asyncio.to_thread(self._delete_videos)
        except (SQLAlchemyError, StorageFailed, OSError):
            logger.exception("A video could not be deleted", extra={"action": "deletion_failed"})

    async def _wait(self, *, until: float) -> None:
        """Waits until a slot is freed, or the store changes while a slot is free, or the time `until`."""
        is_full, wake = self._relays.are_full, self._relays.wake
        while (left := until - time.monotonic()) > 0 and not wake.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left if is_full else min(left, self._changes.interval_seconds)):
                    await wake.wait()
            if not is_full and self._changes.changed():
                break
        wake.clear()

    def _usable_models(self) -> list[str]:
        """Returns the models that are downloaded and whose deployment can start."""
        return [
            spec.id
            for spec in self._served
            if self._downloads.is_available(spec.id) and self._relays.is_available(spec.type)
        ]


class _Interval:
    """A periodic event, which is first due at once."""

    def __init__(self, seconds: float) -> None:
        self.due_at = time.monotonic()
        """Time of the next event, by the monotonic clock."""
        self._seconds = seconds

    def is_due(self) -> bool:
        """Returns whether the event is due and, if so, schedules the next one."""
        now = time.monotonic()
        if now < self.due_at:
            return False
        self.due_at = now + self._seconds
        return True
