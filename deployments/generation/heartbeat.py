"""The heartbeat of a generator's replica: regular reports of its job and its loaded models."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable

from ray import serve
from sqlalchemy.exc import SQLAlchemyError

from deployments.generation.device import Device
from deployments.generation.gpus import read_gpus
from deployments.jobs.replica_registry import REPORT_SECONDS, LoadedInfo, ReplicaInfo, ReplicaRegistry

logger = logging.getLogger("ray.serve")


def own_id() -> str:
    """Returns Serve's id of the replica that calls this."""
    return str(serve.get_replica_context().replica_id.unique_id)


class Heartbeat:
    """Reports the replica to the registry at intervals, and soon after each change."""

    def __init__(self, registry: ReplicaRegistry, device: Device, loaded: Callable[[], list[LoadedInfo]]) -> None:
        self._registry, self._device, self._loaded = registry, device, loaded
        self.job_id: str | None = None
        """Id of the running job."""
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begins to report, unless it has begun. The replica's event loop must call this."""
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._run())

    def report_soon(self) -> None:
        """Asks for a report, because something has changed. Any thread may call this."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    def end(self) -> None:
        """Stops the reports and removes the replica from the registry. Any thread may call this."""
        if self._loop is None or self._task is None:
            return
        self._loop.call_soon_threadsafe(self._task.cancel)
        with contextlib.suppress(SQLAlchemyError):
            self._registry.remove(own_id())

    async def _run(self) -> None:
        context = serve.get_replica_context()
        while True:
            runtime = self._device.runtime
            gpus = await asyncio.to_thread(read_gpus, runtime.gpu_uuids) if runtime and runtime.gpu_uuids else []
            info = ReplicaInfo(
                id=own_id(),
                deployment=context.deployment,
                node=socket.gethostname(),
                process_id=os.getpid(),
                device=self._device.name,
                job_id=self.job_id,
                models=self._loaded(),
                hardware=self._device.hardware,
                torch_version=runtime.torch_version if runtime else None,
                cuda_version=runtime.cuda_version if runtime else None,
                gpus=gpus,
            )
            try:
                await asyncio.to_thread(self._registry.report, info)
            except SQLAlchemyError:
                logger.exception("The database did not answer", extra={"action": "store_failed"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), REPORT_SECONDS)
            self._changed.clear()
