"""The device of a generator, and the single thread that uses it."""

import contextlib
import gc
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.generation.metrics import DeviceMetrics
from deployments.jobs.job import ClaimState, Job
from deployments.messages import Advanced, Completed, Message, Preempted, Stopped
from deployments.storage.keys import output_key
from deployments.storage.protocol import Storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import StorageFailed
from wan22_bridge.plans import HardwareProfile, PlanConstraints
from wan22_bridge.types import INPUTS, Checkpoint, GenerationParams, GenerationResult, Preview, Progress

if TYPE_CHECKING:
    from wan22_bridge.bridge import ModelIntegrationBridge
    from wan22_bridge.models.loaded import LoadedModel
    from wan22_bridge.planning.hardware import TorchRuntime

logger = logging.getLogger("ray.serve")

PROGRESS_SECONDS = 0.5
"""Shortest time between two progress reports within a stage, unless a snapshot was stored between them. A report
writes to the disk and wakes four processes."""


class _ClaimLost(Exception):
    """Thrown into a generation whose claim is lost, because closing the generation would write a snapshot."""


class Stop(threading.Event):
    """A request to the device's thread to stop the job. It also carries the thread's sign of life."""

    alive_at = math.inf
    """Monotonic time of the thread's last sign of life; infinite before the thread begins the job."""

    claim = ClaimState.HELD
    """State of the claim. A stopped job is checkpointed, unless its claim is lost."""

    @property
    def message(self) -> Message:
        """The last message of the stopped job."""
        return Preempted() if self.claim is ClaimState.PREEMPTED else Stopped()


class Device:
    """Runs everything that uses the device, one call at a time, in a thread of its own."""

    def __init__(
        self, storage: Storage, constraints: PlanConstraints, *, checkpoint_seconds: float, preview_seconds: float
    ) -> None:
        """Starts the thread, which begins to import torch, because that takes seconds before the first job.

        Args:
            storage: the inputs, outputs and snapshots of jobs.
            constraints: the operator's constraints on every plan.
            checkpoint_seconds: time between two snapshots of a running job.
            preview_seconds: time between two previews of a running job; 0 for no previews.
        """
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self.name = ""
        """The manufacturer's name of the device; empty until the thread has opened it."""
        self.hardware: HardwareProfile | None = None
        """The machine as it was before a model was loaded; None until the thread has opened the device."""
        self.runtime: TorchRuntime | None = None
        """torch and its GPUs; None until the thread has opened the device."""
        self._storage, self._constraints = storage, constraints
        self._checkpoint_seconds, self._preview_seconds = checkpoint_seconds, preview_seconds
        self._metrics = DeviceMetrics()
        self._bridge: ModelIntegrationBridge | None = None
        self.thread.submit(self._open)

    def end(self) -> None:
        """Waits until the thread has finished its work and ended."""
        self.thread.shutdown(wait=True)

    def load(self, spec: ModelSpec, folder: Path, params: GenerationParams | None = None) -> "LoadedModel":
        """Loads a model from its folder, planned for a request or for the model's defaults.

        Only the device's thread may call this. Errors of the bridge propagate.
        """
        started = time.perf_counter()
        model = self._open().load(spec, folder, params)
        self._metrics.loaded(spec.id, time.perf_counter() - started, model.device_bytes)
        return model

    def run(self, model: "LoadedModel", job: Job, stop: Stop, send: Callable[[Message], None]) -> Message:
        """Runs a job until it ends or is stopped. Only the device's thread may call this.

        Args:
            model: the job's model.
            job: the claimed job.
            stop: ends the job early when it is set.
            send: receives the progress of the job.

        Returns:
            The last message of the job. Errors of the bridge and the storage propagate.
        """
        logger.info("Job %s begun", job.id, extra={"action": "job_begun", "job_id": job.id})
        keys = [key for name in INPUTS if (key := getattr(job.params, name))]
        self._storage.fetch_job(job.id, job.fencing_token, keys)
        run = self._generate(model, job)
        try:
            _report_progress(run, stop, send)
        except StopIteration as end:
            self._storage.publish_output(job.id, job.fencing_token)
            logger.info("Job %s completed", job.id, extra={"action": "job_completed", "job_id": job.id})
            return self._completed(job, end.value)
        finally:
            if stop.claim is ClaimState.LOST:
                with contextlib.suppress(_ClaimLost):
                    run.throw(_ClaimLost())
            run.close()
            self._storage.remove_work_files(job.id, job.fencing_token)
        logger.info("Job %s stopped", job.id, extra={"action": "job_stopped", "job_id": job.id})
        return stop.message

    def _generate(self, model: "LoadedModel", job: Job) -> Generator[Progress, None, GenerationResult]:
        work = self._storage.work
        checkpoint = Checkpoint(
            path=work.snapshot_path(job.id),
            segments=work.segments_folder(job.id, job.fencing_token),
            interval_seconds=self._checkpoint_seconds,
            written=partial(self._publish_snapshot, job),
            segment_finished=partial(self._publish_segment, job),
        )
        preview = Preview(
            path=work.preview_path(job.id),
            interval_seconds=self._preview_seconds,
            shown=partial(_try_to_publish, self._storage.publish_preview, job.id),
        )
        return self._open().generate(
            model,
            job.params,
            work.output_folder(job.id, job.fencing_token),
            inputs=self._storage.inputs_root,
            checkpoint=checkpoint,
            preview=preview if self._preview_seconds else None,
        )

    def _open(self) -> "ModelIntegrationBridge":
        if self._bridge is None:
            # The garbage collector would take a quarter of the import's time.
            gc.disable()
            try:
                from wan22_bridge.bridge import ModelIntegrationBridge
                from wan22_bridge.planning.hardware import detect_runtime
            finally:
                gc.freeze()
                gc.enable()
            self._bridge = ModelIntegrationBridge(
                constraints=self._constraints, scratch=self._storage.work.offload, loras=self._storage.work.loras
            )
            self.hardware = self._bridge.hardware
            self.name = self.hardware.name
            self.runtime = detect_runtime()
        return self._bridge

    def _publish_snapshot(self, job: Job, seconds: float) -> None:
        self._metrics.checkpointed(job.params.model, seconds)
        _try_to_publish(self._storage.publish_snapshot, job.id)

    def _publish_segment(self, job: Job, index: int) -> None:
        publish = partial(self._storage.publish_segment, fencing_token=job.fencing_token, index=index)
        _try_to_publish(publish, job.id)

    def _completed(self, job: Job, result: GenerationResult) -> Completed:
        folder = output_key(job.id, job.fencing_token)
        values = asdict(result)
        names = {name: values.pop(name).name for name in ("video", "thumbnail", "last_frame")}
        output = {"folder": folder, "file_size_bytes": values.pop("file_size_bytes")} | names
        return Completed(output=output, result=values | {"success": True, "parameters_used": job.params.to_dict()})


def _report_progress(run: Iterator[Progress], stop: Stop, send: Callable[[Message], None]) -> None:
    """Advances a generation until `stop` is set, and sends its progress. Raises StopIteration when it ends."""
    sent: Progress | None = None
    sent_at = 0.0
    while not stop.is_set():
        stop.alive_at = time.monotonic()
        progress = next(run)
        is_news = sent is None or (sent.stage, sent.saved_steps) != (progress.stage, progress.saved_steps)
        if is_news or time.monotonic() - sent_at >= PROGRESS_SECONDS:
            send(Advanced(progress))
            sent, sent_at = progress, time.monotonic()


def _try_to_publish(publish: Callable[[str], None], job_id: str) -> None:
    """Publishes a snapshot or a preview. A failure is only logged, because the job can run without either."""
    try:
        publish(job_id)
    except StorageFailed as exc:
        logger.warning("%s", exc.message, extra={"action": "storage_failed", "job_id": job_id})
