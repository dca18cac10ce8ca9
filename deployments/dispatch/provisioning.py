"""Jobs whose model is not on this machine: it is fetched while they wait, and no GPU waits with them."""

import asyncio
import logging
import math
import time
from collections.abc import Collection, Sequence
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.downloader import Availability, Presence
from deployments.jobs.store import JobStore
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.types import Progress, Stage

logger = logging.getLogger("ray.serve")

TELL_SECONDS = 5.0
TELL_PERCENT = 1.0
"""How often jobs are told how far their model is: whichever comes first."""


class Provisioning:
    """Has the models fetched that pending jobs need, and tells these jobs how far that is."""

    def __init__(self, store: JobStore, downloader: DeploymentHandle[Any], served: Sequence[ModelSpec]) -> None:
        self._store, self._downloader = store, downloader
        self._fetched = [spec.id for spec in served if spec.is_fetched]
        self._missing = set(self._fetched)
        self._begun: set[str] = set()
        """Fetches that were begun for the jobs that wait: if one fails, so do they."""
        self._told: dict[str, tuple[float, float]] = {}
        """Of each model, when the jobs were last told how far it is, and how far that was."""

    def is_there(self, model_id: str) -> bool:
        """Whether a job for a model could begin, as far as that is known."""
        return model_id not in self._missing

    async def update(self, waiting: Collection[str]) -> None:
        """Looks which models are there, begins and stops fetches, and writes on the jobs how far they are.

        Args:
            waiting: the models that pending jobs need.
        """
        if not self._fetched:
            return
        try:
            found: dict[str, Availability] = await self._downloader.availability.remote()
        except (RayError, RayServeException):
            logger.exception("The downloader did not answer", extra={"action": "downloader_failed"})
            return
        for model_id in self._fetched:
            await self._provide(model_id, found[model_id], is_wanted=model_id in waiting)

    async def _provide(self, model_id: str, found: Availability, *, is_wanted: bool) -> None:
        if found.presence is Presence.AVAILABLE:
            if model_id in self._missing:
                await asyncio.to_thread(self._store.note_fetched, model_id)
            self._missing.discard(model_id)
            self._begun.discard(model_id)
            return
        self._missing.add(model_id)
        if found.presence is Presence.DOWNLOADING:
            if is_wanted:
                await self._tell(model_id, _progress(found))
            elif found.for_jobs:
                await self._downloader.stop.remote(model_id)
                self._begun.discard(model_id)
        elif is_wanted and model_id in self._begun and found.error is not None:
            await asyncio.to_thread(self._store.fail_pending, model_id, found.error)
            self._begun.discard(model_id)
        elif is_wanted:
            self._begun.add(model_id)
            await self._tell(model_id, Progress(stage=Stage.DOWNLOADING_MODEL))
            await self._downloader.start.remote(model_id, for_jobs=True)
        else:
            self._begun.discard(model_id)

    async def _tell(self, model_id: str, progress: Progress) -> None:
        """Not more often than it is worth: each time is a row in the event log for each job that waits."""
        at, percent = self._told.get(model_id, (-math.inf, 0.0))
        now = time.monotonic()
        if now - at >= TELL_SECONDS or abs(progress.percent - percent) >= TELL_PERCENT:
            self._told[model_id] = now, progress.percent
            await asyncio.to_thread(self._store.note_fetch, model_id, progress)


def _progress(found: Availability) -> Progress:
    percent = 100 * found.done_bytes / found.total_bytes if found.total_bytes else 0.0
    return Progress(stage=Stage.DOWNLOADING_MODEL, percent=percent, eta_seconds=found.eta_seconds)
