"""The model that is needed next: read into the page cache while the device works for another one."""

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

LOOK_SECONDS = 2.0
_JOBS_SEEN = 50


class Prefetching:
    """Of one replica. Whether this or another one runs the next job, the GPU that becomes free is on this machine."""

    def __init__(self, store: JobStore, downloader: DeploymentHandle[Any], models: Sequence[str]) -> None:
        """Reads nothing yet.

        Args:
            store: of the jobs.
            downloader: knows the folders of the models.
            models: those that jobs may need.
        """
        self._store, self._downloader, self._models = store, downloader, models
        self._last: str | None = None
        """What was read last: until it was loaded it need not be read again."""

    async def run(self, loaded: Collection[str]) -> None:
        """Looks now and then which model is needed next, and reads it, until this is cancelled.

        Args:
            loaded: what need not be read.
        """
        if self._last in loaded:
            self._last = None
        while True:
            try:
                wanted = await self._next(loaded)
                if wanted is not None and wanted != self._last:
                    await self._read(wanted)
            except (SQLAlchemyError, RayError, RayServeException, OSError):
                logger.exception("Nothing is read ahead", extra={"action": "prefetch_failed"})
            await asyncio.sleep(LOOK_SECONDS)

    async def _next(self, loaded: Collection[str]) -> str | None:
        """The first model in the queue that is not loaded: jobs for those that are may go first."""
        waiting = await asyncio.to_thread(self._store.next_pending, self._models, limit=_JOBS_SEEN)
        return next((job.params.model for job in waiting if job.params.model not in loaded), None)

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
        extra = {"action": "model_prefetched" if read else "prefetch_left", "model": model_id}
        logger.info("%s %s read ahead", model_id, "was" if read else "could not be", extra=extra)
