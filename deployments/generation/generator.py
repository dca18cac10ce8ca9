"""The deployment that generates: one class, bound for each model type, or once for all."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.generation.device import Device, Stop
from deployments.generation.heartbeat import Telling, own_id
from deployments.generation.multiplexing import Loaded, Models
from deployments.generation.prefetching import Prefetching
from deployments.jobs.holdings import Holdings
from deployments.jobs.job import ClaimState, Job
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Begun, Failed, Message
from deployments.storage.opening import open_storage
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import GenerationFailed, Wan22Error
from wan22_bridge.plans import Offload, OptimizationPlan, PlanConstraints
from wan22_bridge.types import Progress, Stage

logger = logging.getLogger("ray.serve")

WATCH_SECONDS = 0.25
"""How often a running job asks the store whether it was cancelled or overtaken."""
HUNG = 70
"""The exit status of a process whose job hung."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """How jobs are run."""

    loaded_models: int
    """How many models a replica keeps loaded."""
    preload: Sequence[str]
    """Models that are loaded without waiting for a job."""
    all_models: Sequence[str]
    """What the service has, other generators' models too: one of them may be needed here next."""
    checkpoint_interval_seconds: float
    preview_interval_seconds: float
    """0 for no previews."""
    hang_seconds: float
    """A job that tells nothing for so long hangs: the process ends, and the job goes on in another."""
    constraints: PlanConstraints


class Generator:
    """Runs jobs one after the other, and multiplexes the models that these need.

    Everything that touches the device runs in one thread: what comes next waits until that thread is out of what came
    before, also where the caller has long gone: so no model is unloaded that is in use. The constructor opens nothing:
    what can't be opened is a job's misfortune, which is told. Weights are loaded with the first job.
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
        self._store = JobStore(store_url, migrate=False)
        self._config = config
        self._device = Device(
            open_storage(data_dir, storage_url),
            config.constraints,
            checkpoint_seconds=config.checkpoint_interval_seconds,
            preview_seconds=config.preview_interval_seconds,
        )
        self._models = Models(
            self._device,
            {spec.id: spec for spec in served},
            downloader,
            most=config.loaded_models,
            changed=lambda: self._telling.soon(),
        )
        self._prefetching = Prefetching(self._store, downloader, config.all_models)
        self._telling = Telling(Holdings(self._store.database), self._device, lambda: self._models.infos)
        if config.preload:
            self._preloading = asyncio.get_running_loop().create_task(self._preload())

    def __del__(self) -> None:
        """Waits for the device's thread: a job that was given back ends its step and keeps its snapshot."""
        self._device.end()
        self._telling.end()

    async def _preload(self) -> None:
        self._telling.begin()
        for model_id in self._config.preload[: self._config.loaded_models]:
            try:
                await self._models.load(model_id)
            except Exception:
                logger.exception("%s could not be preloaded", model_id, extra={"action": "preload_failed"})

    async def generate(self, job: Job) -> AsyncIterator[Message]:
        """Runs one claimed job, telling how far it is; the last message is how it ended.

        It stops when the store says so, or when the caller cancels the call.
        """
        self._telling.job_id = job.id
        self._telling.begin()
        self._telling.soon()
        yield Begun(own_id())
        yield Advanced(Progress(stage=Stage.LOADING_MODEL, total_steps=job.params.steps_to_run))
        stop = Stop()
        watch = asyncio.create_task(self._watch(job, stop))
        try:
            loaded = await self._load_unless_stopped(job.params.model, watch)
            if loaded is None:
                yield stop.message
                return
            async for message in self._run(loaded, job, stop):
                yield message
        except RayActorError:
            raise  # the downloader died: the job is worth another attempt
        except Exception as exc:
            logger.exception("Job %s failed", job.id, extra={"action": "job_failed", "job_id": job.id})
            yield Failed(_describe(exc, job))
        finally:
            stop.set()
            watch.cancel()
            self._telling.job_id = None
            self._telling.soon()

    async def _load_unless_stopped(self, model_id: str, watch: "asyncio.Task[None]") -> Loaded | None:
        """The loaded model; None if the watch ends first."""
        load = self._models.load(model_id)
        futures: set[asyncio.Future[Any]] = {load, watch}
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        return await load if load.done() else None

    async def _run(self, loaded: Loaded, job: Job, stop: Stop) -> AsyncIterator[Message]:
        """Runs the job in the device's thread; the thread's own end is the last message."""
        loop = asyncio.get_running_loop()
        progress: asyncio.Queue[Message] = asyncio.Queue()

        def say(message: Message) -> None:
            loop.call_soon_threadsafe(progress.put_nowait, message)

        assert loaded.model is not None
        running = loop.run_in_executor(self._device.thread, self._device.run, loaded.model, job, stop, say)
        prefetch = asyncio.create_task(self._prefetch(loaded.model.plan))
        try:
            while not running.done() or not progress.empty():
                said = asyncio.ensure_future(progress.get())
                await asyncio.wait({said, running}, return_when=asyncio.FIRST_COMPLETED)
                if said.done():
                    yield said.result()
                else:
                    said.cancel()
            yield running.result()
        finally:
            prefetch.cancel()

    async def _prefetch(self, plan: OptimizationPlan) -> None:
        """Reads ahead what is needed next. It would drive a model out of the page cache that is streamed from there."""
        if plan.offload is not Offload.DISK:
            await self._prefetching.run([info.model for info in self._models.infos])

    async def _watch(self, job: Job, stop: Stop) -> None:
        while not stop.is_set():
            await asyncio.sleep(WATCH_SECONDS)
            if time.monotonic() - stop.heard_at > self._config.hang_seconds:
                extra = {"action": "job_hangs", "job_id": job.id}
                logger.error("Job %s hangs: this process ends, and it goes on in another", job.id, extra=extra)
                logging.shutdown()
                os._exit(HUNG)  # a thread that hangs can't be ended otherwise
            try:
                claim = await asyncio.to_thread(self._store.claim_state, job.id, job.fencing_token)
                if claim is not ClaimState.HELD:
                    stop.claim = claim
                    stop.set()
            except SQLAlchemyError:
                logger.exception("The store did not answer", extra={"action": "store_failed"})


def _describe(error: Exception, job: Job) -> dict[str, Any]:
    """What a client is told of an error: nothing of the inside of what was not foreseen."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, Wan22Error):
        return cause.to_dict()
    return GenerationFailed(
        f"The generation broke off with an unexpected {type(cause).__name__}.",
        code="internal_error",
        suggestions=[f"The service's log tells more: look for {job.id}."],
    ).to_dict()
