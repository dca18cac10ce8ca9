"""The generator deployment, which is bound once for each model type, or once for all types."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.generation.device import Device, Stop
from deployments.generation.heartbeat import Heartbeat, own_id
from deployments.generation.multiplexing import Loaded, Models
from deployments.generation.prefetching import Prefetching
from deployments.jobs.job import ClaimState, Job, JobNotFound
from deployments.jobs.optimization_defaults import explain_defaults
from deployments.jobs.replica_registry import ReplicaRegistry
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Begun, Failed, Message
from deployments.replica_ports import keep_replica_port_local
from deployments.storage.opening import open_storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import GenerationFailed, Wan22Error
from wan22_bridge.plans import Offload, OptimizationPlan, PlanConstraints
from wan22_bridge.types import GenerationParams, Progress, Stage

if TYPE_CHECKING:
    from wan22_bridge.models.loaded import LoadedModel

logger = logging.getLogger("ray.serve")

WATCH_SECONDS = 0.25
"""Time between two checks whether a running job was cancelled, preempted or claimed again."""
HUNG = 70
"""Exit status of a process whose job hung."""
DEVICE_FAILED = 71
"""Exit status of a process whose GPU failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """Settings of a generator."""

    loaded_models: int
    """Number of models that a replica keeps loaded."""
    preload: Sequence[str]
    """Ids of models that a replica loads when it starts."""
    all_models: Sequence[str]
    """Ids of all models of the service, because the next job on this GPU may need another generator's model."""
    checkpoint_interval_seconds: float
    preview_interval_seconds: float
    """0 turns previews off."""
    hang_seconds: float
    """Time without a sign of life after which a job counts as hung. Its process exits, and another resumes the job."""
    constraints: PlanConstraints


class Generator:
    """Runs jobs one at a time and multiplexes their models.

    All use of the device is in one thread. A new job waits until the thread has left the previous job, even if the
    previous job's caller is gone, so that no model in use is unloaded. The constructor opens nothing, because Serve
    gives up on a deployment whose constructor fails, while a job can report the error. The first job loads its model.
    """

    def __init__(
        self,
        store_url: str,
        data_dir: Path,
        storage_url: str | None,
        served: Sequence[ModelSpec],
        downloader: DeploymentHandle[Any],
        config: GeneratorConfig,
    ) -> None:
        keep_replica_port_local()
        self._store = JobStore(store_url, migrate=False)
        self._config = config
        self._storage = open_storage(data_dir, storage_url)
        self._device = Device(
            self._storage,
            config.constraints,
            checkpoint_seconds=config.checkpoint_interval_seconds,
            preview_seconds=config.preview_interval_seconds,
        )
        self._models = Models(
            self._device,
            {spec.id: spec for spec in served},
            downloader,
            most=config.loaded_models,
            changed=lambda: self._heartbeat.report_soon(),
        )
        self._prefetching = Prefetching(self._store, downloader, config.all_models)
        self._heartbeat = Heartbeat(
            ReplicaRegistry(self._store.database), self._device, loaded=lambda: self._models.infos
        )
        if config.preload:
            self._preloading = asyncio.get_running_loop().create_task(self._preload())

    def __del__(self) -> None:
        """Waits for the device's thread, in which a stopped job finishes its step and is checkpointed."""
        self._device.end()
        self._heartbeat.end()

    async def _preload(self) -> None:
        self._heartbeat.begin()
        for model_id in self._config.preload[: self._config.loaded_models]:
            try:
                await self._models.load(model_id)
            except Exception as exc:
                logger.exception("%s could not be preloaded", model_id, extra={"action": "preload_failed"})
                _end_if_device_failed(exc)

    async def generate(self, job: Job) -> AsyncIterator[Message]:
        """Runs one claimed job and yields its progress. The last message reports how the job ended.

        The job stops when its claim ends in the store, or when the caller cancels the call.
        """
        self._heartbeat.job_id = job.id
        self._heartbeat.begin()
        self._heartbeat.report_soon()
        yield Begun(own_id())
        yield Advanced(Progress(stage=Stage.LOADING_MODEL, total_steps=job.params.steps_to_run))
        stop = Stop()
        watch = asyncio.create_task(self._watch_claim(job, stop))
        try:
            loaded = await self._load_unless_stopped(job.params, watch)
            if loaded is None:
                yield stop.message
                return
            async for message in self._run(loaded, job, stop):
                yield message
        except RayActorError:
            raise  # the downloader died, so the dispatcher starts another attempt
        except Exception as exc:
            logger.exception("Job %s failed", job.id, extra={"action": "job_failed", "job_id": job.id})
            _end_if_device_failed(exc)
            yield Failed(_describe(exc, job))
        finally:
            stop.set()
            watch.cancel()
            self._heartbeat.job_id = None
            self._heartbeat.report_soon()

    async def _load_unless_stopped(self, params: GenerationParams, watch: "asyncio.Task[None]") -> Loaded | None:
        """Returns the loaded model, or None if the job is stopped first."""
        load = self._models.load(params.model, params)
        futures: set[asyncio.Future[Any]] = {load, watch}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        return await load if load.done() else None

    async def _run(self, loaded: Loaded, job: Job, stop: Stop) -> AsyncIterator[Message]:
        """Runs the job in the device's thread and yields its messages, the last one included."""
        loop = asyncio.get_running_loop()
        progress: asyncio.Queue[Message] = asyncio.Queue()

        def send(message: Message) -> None:
            loop.call_soon_threadsafe(progress.put_nowait, message)

        assert loaded.model is not None
        running = loop.run_in_executor(self._device.thread, self._run_on_device, loaded.model, job, stop, send)
        prefetch = asyncio.create_task(self._prefetch(loaded.model.plan))
        try:
            while not running.done() or not progress.empty():
                received = asyncio.ensure_future(progress.get())
                await asyncio.wait({received, running}, return_when=asyncio.FIRST_COMPLETED)
                if received.done():
                    yield received.result()
                else:
                    received.cancel()
            yield running.result()
        finally:
            prefetch.cancel()

    def _run_on_device(self, model: "LoadedModel", job: Job, stop: Stop, send: Callable[[Message], None]) -> Message:
        """Runs the job, and removes its files if the job was deleted meanwhile.

        The deletion removes the files too, but the step that was running may have written a preview since.
        """
        try:
            return self._device.run(model, job, stop, send)
        finally:
            try:
                self._store.reader.get(job.id)
            except JobNotFound:
                self._storage.remove_outputs(job.id)
            except SQLAlchemyError:
                logger.exception("The database did not answer", extra={"action": "store_failed"})

    async def _prefetch(self, plan: OptimizationPlan) -> None:
        """Prefetches the next model, unless the running model is streamed from the page cache and would be evicted."""
        if plan.offload is not Offload.DISK:
            await self._prefetching.run([info.model for info in self._models.infos])

    async def _watch_claim(self, job: Job, stop: Stop) -> None:
        """Stops the job when its claim ends, and ends this process when the job hangs."""
        while not stop.is_set():
            await asyncio.sleep(WATCH_SECONDS)
            if time.monotonic() - stop.alive_at > self._config.hang_seconds:
                extra = {"action": "job_hangs", "job_id": job.id}
                logger.error(
                    "Job %s hangs: this process exits, and another process resumes the job", job.id, extra=extra
                )
                _end_process(HUNG)
            try:
                claim = await asyncio.to_thread(self._store.reader.claim_state, job.id, job.fencing_token)
                if claim is not ClaimState.HELD:
                    stop.claim = claim
                    stop.set()
            except SQLAlchemyError:
                logger.exception("The database did not answer", extra={"action": "store_failed"})


def _end_if_device_failed(error: Exception) -> None:
    """Ends this process if its GPU has failed, because every later job would fail here, too.

    The dispatcher then puts the job back, and Serve starts another process, which resumes the job.
    """
    # Here and not at the top, because importing torch takes seconds. The device's thread has imported it by now.
    from wan22_bridge.device_errors import is_device_failure

    if is_device_failure(error):
        logger.error(
            "The device failed: this process exits, and another process resumes its job",
            extra={"action": "device_failed"},
        )
        _end_process(DEVICE_FAILED)


def _end_process(status: int) -> NoReturn:
    """Ends this process at once: a hung thread, or one that waits for a failed GPU, would delay a normal exit."""
    logging.shutdown()
    os._exit(status)


def _describe(error: Exception, job: Job) -> dict[str, Any]:
    """Returns the client's error object. It hides the details of unexpected errors."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, Wan22Error):
        explain_defaults(cause, job.params)
        return cause.to_dict()
    return GenerationFailed(
        f"The generation failed with an unexpected {type(cause).__name__}.",
        code="internal_error",
        suggestions=[f"Search the service's log for {job.id} to find the cause."],
    ).to_dict()
