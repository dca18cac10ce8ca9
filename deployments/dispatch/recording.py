"""Recording of the machine's use, one row a minute."""

import asyncio
import logging
import socket
import time

from sqlalchemy.exc import SQLAlchemyError

from deployments.jobs.replica_registry import ReplicaRegistry
from deployments.jobs.store import JobStore
from deployments.system_stats import SystemMeter

logger = logging.getLogger("ray.serve")


class StatsRecorder:
    """Writes the use of the machine into the store, in a task beside the dispatcher's loop.

    When two dispatchers run for a moment, the store keeps the row of the first.
    """

    def __init__(self, store: JobStore) -> None:
        self._history = store.stats
        self._meter = SystemMeter(ReplicaRegistry(store.database))
        self._minute = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts to record the present minute, unless that was started already, or the CPU's use is not known yet."""
        minute = int(time.time() // 60)
        if not self._meter.knows_cpu:
            return
        if minute != self._minute and (self._task is None or self._task.done()):
            self._minute = minute
            self._task = asyncio.create_task(self._record())

    def stop(self) -> None:
        """Cancels the running recording."""
        if self._task is not None:
            self._task.cancel()

    async def _record(self) -> None:
        try:
            await asyncio.to_thread(self._write)
        except SQLAlchemyError:
            logger.exception("The use of the machine could not be recorded", extra={"action": "store_failed"})

    def _write(self) -> None:
        self._history.add(socket.gethostname(), self._meter.read().use)
