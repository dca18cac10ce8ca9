"""The device of a generator: the one thread that touches it, and what a job does there."""

import contextlib
import gc
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.generation.metrics import DeviceMetrics
from deployments.jobs.job import ClaimState, Job
from deployments.messages import Advanced, Completed, Message, Stopped, Yielded
from deployments.storage.folder import Storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import StorageFailed
from wan22_bridge.plans import PlanConstraints
from wan22_bridge.types import INPUTS, Checkpoint, GenerationResult, Preview, Progress

if TYPE_CHECKING:
    from wan22_bridge.bridge import ModelIntegrationBridge
    from wan22_bridge.models.loaded import LoadedModel

logger = logging.getLogger("ray.serve")

PROGRESS_SECONDS = 0.5
"""Progress within a stage is told at most this often: each time is a write to the disk and wakes four processes."""


class _Unwanted(Exception):
    """Thrown into a generation that was cancelled or overtaken: it is stopped, and keeps nothing."""


class Stop(threading.Event):
    """Asks the device's thread to stop, and tells why."""

    heard_at = math.inf
    """When the thread has last shown that it lives; infinite while it has nothing to do for the job."""

    claim = ClaimState.HELD
    """What became of the claim. Where it is lost, nobody wants what it did; else the job goes on from its snapshot."""

    @property
    def message(self) -> Message:
        """What the dispatcher is told."""
        return Yielded() if self.claim is ClaimState.YIELDING else Stopped()


class Device:
    """Runs what touches the device, one thing after the other; nothing else does."""

    def __init__(
        self, storage: Storage, constraints: PlanConstraints, *, checkpoint_seconds: float, preview_seconds: float
    ) -> None:
        """Opens nothing, but begins to import torch, which takes seconds: the first job is on its way meanwhile.

        Args:
            storage: of inputs, outputs and snapshots.
            constraints: what every plan is to have.
            checkpoint_seconds: how often a running job is kept.
            preview_seconds: how often it is shown; 0 for never.
        """
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self.name = ""
        """Of the hardware, once it is known."""
        self._storage, self._constraints = storage, constraints
        self._checkpoint_seconds, self._preview_seconds = checkpoint_seconds, preview_seconds
        self._metrics = DeviceMetrics()
        self._bridge: ModelIntegrationBridge | None = None
        self.thread.submit(self._open)

    def end(self) -> None:
        """Returns once the thread has ended what it was at."""
        self.thread.shutdown(wait=True)

    # In its thread.

    def load(self, spec: ModelSpec, folder: Path) -> "LoadedModel":
        """Loads a model from its folder; raises what the bridge raises."""
        started = time.perf_counter()
        model = self._open().load(spec, folder)
        self._metrics.loaded(spec.id, time.perf_counter() - started, model.device_bytes)
        return model

    def run(self, model: "LoadedModel", job: Job, stop: Stop, say: Callable[[Message], None]) -> Message:
        """Runs a job to its end or until it is stopped; what goes wrong is raised."""
        logger.info("Job %s begun", job.id, extra={"action": "job_begun", "job_id": job.id})
        checkpoint = Checkpoint(
            path=self._storage.snapshot_path(job.id),
            interval_seconds=self._checkpoint_seconds,
            kept=partial(self._kept, job),
        )
        preview = Preview(
            path=self._storage.preview_path(job.id),
            interval_seconds=self._preview_seconds,
            shown=partial(_try, self._storage.show_preview, job.id),
        )
        self._storage.bring(job.id, [key for name in INPUTS if (key := getattr(job.params, name))])
        run = self._open().generate(
            model,
            job.params,
            self._storage.output_folder(job.id, job.fencing_token),
            inputs=self._storage.inputs_root,
            checkpoint=checkpoint,
            preview=preview if self._preview_seconds else None,
        )
        try:
            _tell(run, stop, say)
        except StopIteration as end:
            self._storage.keep_output(job.id, job.fencing_token)
            logger.info("Job %s completed", job.id, extra={"action": "job_completed", "job_id": job.id})
            return self._completed(job, end.value)
        finally:
            if stop.claim is ClaimState.LOST:
                with contextlib.suppress(_Unwanted):
                    run.throw(_Unwanted())
            run.close()
            self._storage.leave(job.id, job.fencing_token)
        logger.info("Job %s stopped", job.id, extra={"action": "job_stopped", "job_id": job.id})
        return stop.message

    def _open(self) -> "ModelIntegrationBridge":
        if self._bridge is None:
            # A quarter of the time would go into looking for garbage among what is imported.
            gc.disable()
            try:
                from wan22_bridge.bridge import ModelIntegrationBridge
            finally:
                gc.freeze()
                gc.enable()
            self._bridge = ModelIntegrationBridge(
                constraints=self._constraints, scratch=self._storage.root / "offload", loras=self._storage.loras
            )
            self.name = self._bridge.device_name
        return self._bridge

    def _kept(self, job: Job, seconds: float) -> None:
        self._metrics.kept(job.params.model, seconds)
        _try(self._storage.keep_snapshot, job.id)

    def _completed(self, job: Job, result: GenerationResult) -> Completed:
        folder = self._storage.output_key(job.id, job.fencing_token)
        values = asdict(result)
        names = {name: values.pop(name).name for name in ("video", "thumbnail", "last_frame")}
        output = {"folder": folder, "file_size_bytes": values.pop("file_size_bytes")} | names
        return Completed(output=output, result=values | {"success": True, "parameters_used": job.params.to_dict()})


def _tell(run: Iterator[Progress], stop: Stop, say: Callable[[Message], None]) -> None:
    """Goes on until it is stopped; the run's own end is its StopIteration."""
    stage, told_at = None, 0.0
    while not stop.is_set():
        stop.heard_at = time.monotonic()
        progress = next(run)
        if progress.stage is not stage or time.monotonic() - told_at >= PROGRESS_SECONDS:
            say(Advanced(progress))
            stage, told_at = progress.stage, time.monotonic()


def _try(keep: Callable[[str], None], job_id: str) -> None:
    """Keeps something without which a job can do."""
    try:
        keep(job_id)
    except StorageFailed as exc:
        logger.warning("%s", exc.message, extra={"action": "storage_failed", "job_id": job_id})
