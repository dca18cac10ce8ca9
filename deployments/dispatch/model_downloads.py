"""Downloads of the models that pending jobs need. Jobs stay pending meanwhile, so that they hold no GPU."""

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
from deployments.jobs.generation_mode import GenerationMode
from deployments.jobs.store import JobStore
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.types import Progress, Stage

logger = logging.getLogger("ray.serve")

REPORT_SECONDS = 5.0
"""Longest time between two reports of a download."""
REPORT_PERCENT = 1.0
"""Progress after which a download is reported sooner."""


class ModelDownloads:
    """Starts and stops the downloads of models, and reports their progress to the store."""

    def __init__(self, store: JobStore, downloader: DeploymentHandle[Any], served: Sequence[ModelSpec]) -> None:
        self._store, self._downloader = store, downloader
        self._downloadable = [spec.id for spec in served if spec.is_fetched]
        self._missing = set(self._downloadable)
        self._started: set[str] = set()
        """Models whose download was started for pending jobs. If the download fails, the jobs fail as well."""
        self._shown = set(self._downloadable)
        """Models whose download pending jobs may show. An earlier dispatcher may have left one in the store."""
        self._reported: dict[str, tuple[float, float]] = {}
        """Time and percentage of the last report for each model."""

    def is_available(self, model_id: str) -> bool:
        """Returns whether a model was on this machine at the last update."""
        return model_id not in self._missing

    async def update(self, needed: Collection[str]) -> None:
        """Checks which models are available, and starts, stops and reports downloads.

        Args:
            needed: the models of all pending jobs.
        """
        if not self._downloadable:
            return
        try:
            found: dict[str, Availability] = await self._downloader.availability.remote()
        except (RayError, RayServeException):
            logger.exception("The downloader did not answer", extra={"action": "downloader_failed"})
            return
        for model_id in self._downloadable:
            await self._update_model(model_id, found[model_id], is_needed=model_id in needed)

    async def _update_model(self, model_id: str, found: Availability, *, is_needed: bool) -> None:
        if found.presence is Presence.AVAILABLE:
            await self._hide(model_id)
            self._missing.discard(model_id)
            self._started.discard(model_id)
            return
        self._missing.add(model_id)
        if found.presence is Presence.DOWNLOADING:
            if is_needed:
                await self._report(model_id, _progress(found))
            elif found.for_jobs:
                await self._hide(model_id)
                await self._downloader.stop.remote(model_id)
                self._started.discard(model_id)
        elif is_needed and model_id in self._started and found.error is not None:
            await asyncio.to_thread(self._fail_pending, model_id, found.error)
            self._started.discard(model_id)
            self._reported.pop(model_id, None)
        elif is_needed:
            self._started.add(model_id)
            await self._report(model_id, Progress(stage=Stage.DOWNLOADING_MODEL))
            await self._downloader.start.remote(model_id, for_jobs=True)
        else:
            await self._hide(model_id)
            self._started.discard(model_id)

    def _fail_pending(self, model_id: str, error: dict[str, Any]) -> None:
        """Fails the pending jobs of a model, or turns them into mock jobs if the operator has allowed that."""
        if GenerationMode.read(self._store.settings).replaces(error):
            self._store.downloads.mock(model_id, error["message"])
        else:
            self._store.downloads.fail(model_id, error)

    async def _report(self, model_id: str, progress: Progress) -> None:
        """Writes the progress at intervals, because streams report it for each job that waits."""
        at, percent = self._reported.get(model_id, (-math.inf, 0.0))
        now = time.monotonic()
        if now - at >= REPORT_SECONDS or abs(progress.percent - percent) >= REPORT_PERCENT:
            self._reported[model_id] = now, progress.percent
            self._shown.add(model_id)
            await asyncio.to_thread(self._store.downloads.record, model_id, progress)

    async def _hide(self, model_id: str) -> None:
        """Ends what the pending jobs show of a download."""
        if model_id in self._shown:
            await asyncio.to_thread(self._store.downloads.end, model_id)
            self._shown.discard(model_id)
            self._reported.pop(model_id, None)


def _progress(found: Availability) -> Progress:
    percent = 100 * found.done_bytes / found.total_bytes if found.total_bytes else 0.0
    return Progress(stage=Stage.DOWNLOADING_MODEL, percent=percent, eta_seconds=found.eta_seconds)
