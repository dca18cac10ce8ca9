"""The deployment that generates: one class, bound for each model type, or once for all."""

import asyncio
import contextlib
import gc
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle
from sqlalchemy.exc import SQLAlchemyError

from deployments.jobs.holdings import Holdings
from deployments.jobs.job import ClaimState, Job
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Begun, Completed, Failed, Message, Stopped, Yielded
from deployments.multiplexing import Loaded, Models
from deployments.storage import Storage
from deployments.telling import Telling, own_id
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import GenerationFailed, Wan22Error
from wan22_bridge.plans import Wishes
from wan22_bridge.types import Checkpoint, GenerationResult, Preview, Progress, Stage

if TYPE_CHECKING:
    from wan22_bridge.bridge import ModelIntegrationBridge

logger = logging.getLogger("ray.serve")

WATCH_SECONDS = 0.25
"""How often a running job asks the store whether it was cancelled or overtaken."""
PROGRESS_SECONDS = 0.5
"""Progress within a stage is told at most this often: each time is a write to the disk and wakes four processes."""
HUNG = 70
"""The exit status of a process whose job hung."""


class _Unwanted(Exception):
    """Thrown into a generation that was cancelled or overtaken: it is stopped, and keeps nothing."""


class _Stop(threading.Event):
    """Asks the device's thread to stop, and tells why."""

    heard_at = math.inf
    """When the thread has last shown that it lives; infinite while it has nothing to do for the job."""

    claim = ClaimState.HELD
    """What became of the claim. Where it is lost, nobody wants what it did; else the job goes on from its snapshot."""

    @property
    def message(self) -> Message:
        """What the dispatcher is told."""
        return Yielded() if self.claim is ClaimState.YIELDING else Stopped()


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """How jobs are run."""

    loaded_models: int
    """How many models a replica keeps loaded."""
    preload: Sequence[str]
    """Models that are loaded without waiting for a job."""
    checkpoint_interval_seconds: float
    preview_interval_seconds: float
    """0 for no previews."""
    hang_seconds: float
    """A job that tells nothing for so long hangs: the process ends, and the job goes on in another."""
    wishes: Wishes


class Generator:
    """Runs jobs one after the other, and multiplexes the models that these need.

    Everything that touches the device runs in one thread: what comes next waits until that thread is out of what came
    before, also where the caller has long gone: so no model is unloaded that is in use. The constructor opens nothing:
    a deployment whose constructor fails three times is given up by Serve. Weights are loaded with the first job.
    """

    def __init__(
        self,
        store_url: str,
        data_dir: Path,
        served: Sequence[ModelSpec],
        downloader: DeploymentHandle[Any],
        config: GeneratorConfig,
    ) -> None:
        self._device = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._store = JobStore(store_url, migrate=False)
        self._storage = Storage(data_dir)
        self._served = {spec.id: spec for spec in served}
        self._config = config
        self._bridge: ModelIntegrationBridge | None = None
        self._models = Models(
            self._device,
            self._open_bridge,
            self._served,
            downloader,
            most=config.loaded_models,
            changed=lambda: self._telling.soon(),
        )
        self._telling = Telling(Holdings(self._store.database), lambda: self._models.infos)
        self._device.submit(self._open_bridge)
        if config.preload:
            self._preloading = asyncio.get_running_loop().create_task(self._preload())

    def __del__(self) -> None:
        """Waits for the device's thread: a job that was given back ends its step and keeps its snapshot."""
        self._device.shutdown(wait=True)
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
        stop = _Stop()
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

    async def _run(self, loaded: Loaded, job: Job, stop: _Stop) -> AsyncIterator[Message]:
        """Runs the job in the device's thread; the thread's own end is the last message."""
        loop = asyncio.get_running_loop()
        progress: asyncio.Queue[Message] = asyncio.Queue()

        def say(message: Message) -> None:
            loop.call_soon_threadsafe(progress.put_nowait, message)

        running = loop.run_in_executor(self._device, self._run_on_device, loaded, job, stop, say)
        while not running.done() or not progress.empty():
            said = asyncio.ensure_future(progress.get())
            await asyncio.wait({said, running}, return_when=asyncio.FIRST_COMPLETED)
            if said.done():
                yield said.result()
            else:
                said.cancel()
        yield running.result()

    async def _watch(self, job: Job, stop: _Stop) -> None:
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

    # In the device's thread.

    def _open_bridge(self) -> "ModelIntegrationBridge":
        """The bridge. Torch comes with it, which takes seconds: that begins while the first job is on its way."""
        if self._bridge is None:
            # A quarter of that time would go into looking for garbage among what is imported.
            gc.disable()
            try:
                from wan22_bridge.bridge import ModelIntegrationBridge
            finally:
                gc.freeze()
                gc.enable()
            self._bridge = ModelIntegrationBridge(
                wishes=self._config.wishes,
                scratch=self._storage.root / "offload",
                loras=self._storage.loras,
            )
            self._telling.device = self._bridge.device_name
        return self._bridge

    def _run_on_device(self, loaded: Loaded, job: Job, stop: _Stop, say: Callable[[Message], None]) -> Message:
        """Runs the job to its end or until it is stopped; what goes wrong is raised."""
        assert self._bridge is not None
        assert loaded.model is not None
        logger.info("Job %s begun", job.id, extra={"action": "job_begun", "job_id": job.id})
        folder = self._storage.output_folder(job.id, job.fencing_token)
        checkpoint = Checkpoint(
            path=self._storage.snapshot_path(job.id), interval_seconds=self._config.checkpoint_interval_seconds
        )
        preview_seconds = self._config.preview_interval_seconds
        preview = Preview(path=self._storage.preview_path(job.id), interval_seconds=preview_seconds)
        run = self._bridge.generate(
            loaded.model,
            job.params,
            folder,
            inputs=self._storage.root,
            checkpoint=checkpoint,
            preview=preview if preview_seconds else None,
        )
        try:
            self._tell(run, stop, say)
        except StopIteration as end:
            logger.info("Job %s completed", job.id, extra={"action": "job_completed", "job_id": job.id})
            return self._completed(job, end.value)
        finally:
            if stop.claim is ClaimState.LOST:
                with contextlib.suppress(_Unwanted):
                    run.throw(_Unwanted())
            run.close()
        logger.info("Job %s stopped", job.id, extra={"action": "job_stopped", "job_id": job.id})
        return stop.message

    def _tell(self, run: Iterator[Progress], stop: _Stop, say: Callable[[Message], None]) -> None:
        """Goes on until it is stopped; the run's own end is its StopIteration."""
        stage, told_at = None, 0.0
        while not stop.is_set():
            stop.heard_at = time.monotonic()
            progress = next(run)
            if progress.stage is not stage or time.monotonic() - told_at >= PROGRESS_SECONDS:
                say(Advanced(progress))
                stage, told_at = progress.stage, time.monotonic()

    def _completed(self, job: Job, result: GenerationResult) -> Completed:
        folder = self._storage.output_key(job.id, job.fencing_token)
        values = asdict(result)
        names = {name: values.pop(name).name for name in ("video", "thumbnail", "last_frame")}
        output = {"folder": folder, "file_size_bytes": values.pop("file_size_bytes")} | names
        return Completed(output=output, result=values | {"success": True, "parameters_used": job.params.to_dict()})


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
