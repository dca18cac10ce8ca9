"""A lane of deliveries: those to the operator's receivers, or those to the receivers of requests."""

import asyncio
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from deployments.jobs.deliveries import Delivery
from deployments.jobs.store import JobStore
from deployments.network.addresses import mask_url
from deployments.webhooks.retrying import next_delay
from deployments.webhooks.sending import Outcome, Sender
from deployments.webhooks.signing import read_secret

logger = logging.getLogger("ray.serve")

TIMEOUT_SECONDS = 10.0
"""Time limit of an attempt."""
_CONCURRENCY = 16
"""Maximum number of attempts in progress in a lane."""
_CONCURRENCY_OF_RECEIVER = 2
"""Maximum number of attempts in progress for one receiver, so that a slow one leaves room for the others."""
_RESOLVERS = 4 * _CONCURRENCY
"""Maximum number of threads that wait for name servers. A thread can't be stopped at the attempt's time limit, and the
system gives a name up after about 30 seconds."""
_POLL_SECONDS = 0.5
"""Time between two looks for due webhooks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookConfig:
    """Settings of the deliverer."""

    allow_private: bool = False
    """Whether receivers that the operator did not set may have private addresses."""
    secret: str | None = field(default=None, repr=False)
    """Signing secret; by default the stored one."""


class Lane:
    """Delivers with limits and threads of its own, so that the receivers of one lane never delay the other lane."""

    def __init__(self, store: JobStore, config: WebhookConfig, *, trusted: bool) -> None:
        """Stores the configuration.

        Args:
            store: the job store with the outbox.
            config: settings of the deliverer.
            trusted: whether this lane delivers to the operator's receivers, or to those of requests.
        """
        self._store, self._config, self._trusted = store, config, trusted
        self._secret: str | None = None

    async def run(self, stopping: threading.Event) -> None:
        """Delivers until the event is set, and then gives up the attempts in progress."""
        resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-names")
        allow_private = self._trusted or self._config.allow_private
        sender = Sender(resolvers, allow_private=allow_private, timeout_seconds=TIMEOUT_SECONDS)
        receivers: dict[asyncio.Task[None], str] = {}
        while not stopping.is_set():
            for delivery in await self._claim(Counter(receivers.values())):
                receivers[asyncio.create_task(self._deliver(sender, delivery))] = delivery.receiver
            if not receivers:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            done, _ = await asyncio.wait(receivers, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del receivers[task]
                task.result()
        for task in receivers:
            task.cancel()
        resolvers.shutdown(wait=False, cancel_futures=True)

    async def _claim(self, busy: Counter[str]) -> list[Delivery]:
        try:
            return await asyncio.to_thread(
                self._store.deliveries.claim,
                trusted=self._trusted,
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
