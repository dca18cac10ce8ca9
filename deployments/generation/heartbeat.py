"""A replica tells what it holds, for as long as it lives."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable

from ray import serve
from sqlalchemy.exc import SQLAlchemyError

from deployments.generation.device import Device
from deployments.jobs.holdings import TELL_SECONDS, Holdings, LoadedInfo, ReplicaInfo

logger = logging.getLogger("ray.serve")


def own_id() -> str:
    """The id of the replica in which this runs."""
    return str(serve.get_replica_context().replica_id.unique_id)


class Telling:
    """Writes it into the store: now and then, and soon after it has changed."""

    def __init__(self, holdings: Holdings, device: Device, loaded: Callable[[], list[LoadedInfo]]) -> None:
        self._holdings, self._device, self._loaded = holdings, device, loaded
        self.job_id: str | None = None
        """What runs."""
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Tells from now on; called in the replica's event loop, the first time with the first thing to tell."""
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._run())

    def soon(self) -> None:
        """Something has changed; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    def end(self) -> None:
        """The replica ends; from any thread."""
        if self._loop is None or self._task is None:
            return
        self._loop.call_soon_threadsafe(self._task.cancel)
        with contextlib.suppress(SQLAlchemyError):
            self._holdings.remove(own_id())

    async def _run(self) -> None:
        context = serve.get_replica_context()
        while True:
            info = ReplicaInfo(
                id=own_id(),
                deployment=context.deployment,
                node=socket.gethostname(),
                process_id=os.getpid(),
                device=self._device.name,
                job_id=self.job_id,
                models=self._loaded(),
            )
            try:
                await asyncio.to_thread(self._holdings.tell, info)
            except SQLAlchemyError:
                logger.exception("The store did not answer", extra={"action": "store_failed"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), TELL_SECONDS)
            self._changed.clear()
