"""The deliverer: sends the webhooks of the outbox in a thread of its own."""

import asyncio
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from deployments.jobs.deliveries import Delivery
from deployments.jobs.store import JobStore
from deployments.webhooks.addresses import mask_url
from deployments.webhooks.retrying import next_delay
from deployments.webhooks.sending import Outcome, Sender
from deployments.webhooks.signing import read_secret

logger = logging.getLogger("ray.serve")

TIMEOUT_SECONDS = 10.0
"""Time limit of an attempt."""
_CONCURRENCY = 16
"""Maximum number of attempts in progress."""
_CONCURRENCY_OF_RECEIVER = 2
"""Maximum number of attempts in progress for one receiver, so that a slow one leaves room for the others."""
_POLL_SECONDS = 0.5
"""Time between two looks for due webhooks."""
_STOP_SECONDS = 2.0
"""Time that the thread may take to stop. What it has not recorded by then is delivered again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookConfig:
    """Settings of the deliverer."""

    allow_private: bool = False
    """Whether receivers that the operator did not set may have private addresses."""
    secret: str | None = field(default=None, repr=False)
    """Signing secret; by default the stored one."""


class Deliverer:
    """Delivers each webhook at least once, and never makes the dispatcher wait.

    Several deliverers may share a database. A webhook whose deliverer dies is attempted again when its lease has ended.
    """

    def __init__(self, store: JobStore, config: WebhookConfig) -> None:
        """Stores the configuration. `start` begins the deliveries."""
        self._store, self._config = store, config
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="webhooks", daemon=True)
        self._secret: str | None = None

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
        resolvers = ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="webhook-names")
        sender = Sender(resolvers, allow_private=self._config.allow_private, timeout_seconds=TIMEOUT_SECONDS)
        receivers: dict[asyncio.Task[None], str] = {}
        while not self._stopping.is_set():
            for delivery in await self._claim(Counter(receivers.values())):
                receivers[asyncio.create_task(self._deliver(sender, delivery))] = delivery.receiver
            if not receivers:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            done, _ = await asyncio.wait(receivers, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del receivers[task]
                task.result()
        resolvers.shutdown(wait=False, cancel_futures=True)

    async def _claim(self, busy: Counter[str]) -> list[Delivery]:
        try:
            return await asyncio.to_thread(
                self._store.deliveries.claim,
                limit=_CONCURRENCY - busy.total(),
                busy=busy,
                limit_per_receiver=_CONCURRENCY_OF_RECEIVER,
            )
        except (SQLAlchemyError, OSError):
            logger.exception("The due webhooks could not be read", extra={"action": "webhooks_unreadable"})
            return []

    async def _deliver(self, sender: Sender, delivery: Delivery) -> None:
        """Makes one attempt and records its result. If that fails, the lease ends and the attempt is repeated."""
        try:
            if self._secret is None:
                self._secret = await asyncio.to_thread(read_secret, self._store.settings, self._config.secret)
            await self._attempt(sender, delivery, self._secret)
        except (SQLAlchemyError, OSError):
            logger.exception("Webhook %s was not recorded", delivery.id, extra={"action": "webhook_not_recorded"})

    async def _attempt(self, sender: Sender, delivery: Delivery, secret: str) -> None:
        try:
            await asyncio.to_thread(self._record, delivery, await sender.send(delivery, secret))
        except (SQLAlchemyError, OSError):
            raise
        except Exception as exc:  # so that no receiver can end the deliveries to all the others
            extra = {"job_id": delivery.job_id, "action": "webhook_attempt_broken"}
            logger.exception("The attempt to deliver webhook %s broke", delivery.id, extra=extra)
            broken = Outcome(error=f"The service could not complete the attempt: {type(exc).__name__}.")
            await asyncio.to_thread(self._record, delivery, broken)

    def _record(self, delivery: Delivery, outcome: Outcome) -> None:
        extra = {"job_id": delivery.job_id}
        if outcome.error is None:
            assert outcome.status is not None
            self._store.deliveries.record_success(delivery, outcome.status)
            logger.info("Webhook %s delivered", delivery.id, extra=extra | {"action": "webhook_delivered"})
            return
        delay = None if outcome.is_final else next_delay(delivery.attempts, outcome.retry_after)
        self._store.deliveries.record_failure(delivery, status=outcome.status, error=outcome.error, delay_seconds=delay)
        logger.warning(
            "Attempt %d to deliver webhook %s to %s failed: %s %s",
            delivery.attempts,
            delivery.id,
            mask_url(delivery.url),
            outcome.error,
            "It was the last one." if delay is None else f"The next one follows in {delay:.0f} s.",
            extra=extra | {"action": "webhook_failed"},
        )
