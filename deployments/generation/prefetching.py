"""Prefetching: reads the next model into the page cache while the device runs another one."""

import asyncio
import logging
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.jobs.store import JobStore
from wan22_bridge.models.page_cache import prefetch_weights

logger = logging.getLogger("ray.serve")

CHECK_SECONDS = 2.0
"""Time between two looks at the queue."""
_CONSIDERED_JOBS = 50
"""Number of pending jobs that are considered: the first ones of the queue."""


class Prefetching:
    """Prefetches models for the GPU of one replica.

    The next job may run in this replica or in another one. In both cases its model is loaded on this machine, because
    this GPU is the one that becomes free.
    """

    def __init__(self, store: JobStore, downloader: DeploymentHandle[Any], models: Sequence[str]) -> None:
        """Sets up the prefetching without reading anything yet.

        Args:
            store: the jobs.
            downloader: knows the folders of the models.
            models: all models that the service offers.
        """
        self._store, self._downloader, self._models = store, downloader, models
        self._last: str | None = None
        """The model that was prefetched last. It is not read again before it was loaded."""

    async def run(self, loaded: Collection[str]) -> None:
        """Prefetches the next model of the queue, at intervals, until this coroutine is cancelled.

        Args:
            loaded: models that are loaded in this replica.
        """
        if self._last in loaded:
            self._last = None
        while True:
            try:
                wanted = await self._next(loaded)
                if wanted is not None and wanted != self._last:
                    await self._read(wanted)
            except (SQLAlchemyError, RayError, RayServeException, OSError):
                logger.exception("Prefetching failed", extra={"action": "prefetch_failed"})
            await asyncio.sleep(CHECK_SECONDS)

    async def _next(self, loaded: Collection[str]) -> str | None:
        """Returns the first model in the queue that is not loaded. Jobs of loaded models may overtake its jobs."""
        pending = await asyncio.to_thread(self._store.reader.next_pending, self._models, limit=_CONSIDERED_JOBS)
        return next((job.params.model for job in pending if job.params.model not in loaded), None)

    async def _read(self, model_id: str) -> None:
        folder: Path | None = await self._downloader.folder.remote(model_id)
        if folder is None:
            return
        stopped = threading.Event()
        try:
            read = await asyncio.to_thread(prefetch_weights, folder, lambda: not stopped.is_set())
        finally:
            stopped.set()
        self._last = model_id
        extra = {"action": "model_prefetched" if read else "prefetch_skipped", "model": model_id}
        logger.info("%s %s prefetched", model_id, "was" if read else "could not be", extra=extra)
