"""The deliverer: sends the webhooks of the outbox in a thread of its own."""

import asyncio
import threading

from deployments.jobs.store import JobStore
from deployments.webhooks.lane import Lane, WebhookConfig

_STOP_SECONDS = 2.0
"""Time that the thread may take to stop. What it has not recorded by then is delivered again."""


class Deliverer:
    """Delivers each webhook at least once, and never makes the dispatcher wait.

    Several deliverers may share a database. A webhook whose deliverer dies is attempted again when its lease has ended.
    """

    def __init__(self, store: JobStore, config: WebhookConfig) -> None:
        """Stores the configuration. `start` begins the deliveries."""
        self._lanes = [Lane(store, config, trusted=trusted) for trusted in (True, False)]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="webhooks", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread, and gives up the attempts in progress."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    async def _run(self) -> None:
        await asyncio.gather(*(lane.run(self._stopping) for lane in self._lanes))
