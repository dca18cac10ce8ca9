"""Follows the store's event log for all streams of this replica, and distributes the encoded messages to them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.events import describe
from deployments.jobs.job import Event
from deployments.jobs.store import JobStore
from deployments.jobs.waiting import downloaded_model
from serve_app.api.http.proxies import prefixed, under_prefix
from serve_app.api.live.messages import TOPICS, Message, Narrator, encode

logger = logging.getLogger("ray.serve")

_BACKLOG = 1000
"""Maximum number of unread items of a stream, which is closed beyond that."""
_MAX_WAITING = 1000
"""Maximum number of jobs, the first ones of the queue, to which sockets report the progress of one download."""


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """Something that happened. All streams behind the same prefix share the object, so that each message is encoded
    once."""

    messages: Sequence[tuple[str, str]]
    """Encoded messages, each with its topic."""
    sequence: int = 0
    """Number of the event in the log; 0 for what is not in the log."""
    job_id: str = ""
    """Id of the event's job, or `waiting.download_key` of a download; empty for what concerns no single job."""
    owner: str | None = None
    """The only owner who may see it; None for all."""

    @classmethod
    def of(cls, topic: str, messages: Iterable[Message]) -> "News":
        """Returns messages of one topic that are not in the event log."""
        return cls(messages=[(topic, encode(message)) for message in messages])


@dataclass(frozen=True, kw_only=True, slots=True)
class StateRequest:
    """A mark in a stream: the present state is to be read and sent here."""

    topic: str
    task_id: str | None = None
    """Id of the job whose state is wanted; None for all jobs."""


class Subscription:
    """The unread items of one stream, in order.

    Attributes:
        topics: the topics of a socket; empty for other streams, which read the events themselves.
        lagging: whether the stream read too slowly. It then gets no more items.
        prefix: the prefix of the links in its messages, which the request that opened it tells.
    """

    def __init__(self, only: str | None) -> None:
        self._only = only
        self.topics: set[str] = set()
        self.lagging = False
        self.prefix = prefixed("")
        self._items: asyncio.Queue[News | StateRequest] = asyncio.Queue(_BACKLOG)

    def put(self, item: News | StateRequest) -> None:
        """Adds an item, or sets `lagging` if there are too many unread ones. Leaves out news about other owners."""
        if isinstance(item, News) and self._only is not None and item.owner not in (None, self._only):
            return
        try:
            self._items.put_nowait(item)
        except asyncio.QueueFull:
            self.lagging = True

    async def next(self) -> News | StateRequest:
        """Waits for the next item and returns it."""
        return await self._items.get()

    async def next_event(self, job_ids: Sequence[str]) -> int:
        """Waits for the next event with one of these job ids, and returns its sequence number."""
        while True:
            item = await self._items.get()
            if isinstance(item, News) and item.job_id in job_ids:
                return item.sequence


class Feed:
    """Reads the event log while there are subscriptions, and distributes new events to them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._subscriptions: set[Subscription] = set()
        self._wanted = asyncio.Event()
        self._live = asyncio.Event()
        self._wanted_topics = {topic: asyncio.Event() for topic in TOPICS}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reads the event log in the background while the context is open."""
        task = asyncio.create_task(self._tail())
        try:
            yield
        finally:
            task.cancel()

    @asynccontextmanager
    async def subscribe(self, only: str | None) -> AsyncIterator[Subscription]:
        """Returns a context with a subscription to the events that are committed from now on.

        Args:
            only: the only owner whose events the subscription gets; None for all.
        """
        subscription = Subscription(only)
        self._subscriptions.add(subscription)
        self._wanted.set()
        try:
            await self._live.wait()
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            for topic in tuple(subscription.topics):
                self.leave(subscription, topic)
            if not self._subscriptions:
                self._wanted.clear()

    def join(self, subscription: Subscription, topic: str) -> None:
        """Subscribes a socket to a topic."""
        subscription.topics.add(topic)
        self._wanted_topics[topic].set()

    def leave(self, subscription: Subscription, topic: str) -> None:
        """Ends a socket's subscription to a topic."""
        subscription.topics.discard(topic)
        if not any(topic in other.topics for other in self._subscriptions):
            self._wanted_topics[topic].clear()

    def is_wanted(self, topic: str) -> bool:
        """Returns whether a socket of this replica is subscribed to a topic."""
        return self._wanted_topics[topic].is_set()

    async def wait_until_wanted(self, topic: str) -> None:
        """Waits until a socket of this replica is subscribed to a topic."""
        await self._wanted_topics[topic].wait()

    def publish(self, topic: str, messages: Iterable[Message]) -> None:
        """Sends messages that are not in the event log to the sockets that are subscribed to their topic."""
        news = News.of(topic, messages)
        for subscription in self._subscriptions:
            if topic in subscription.topics:
                subscription.put(news)

    async def _tail(self) -> None:
        last: int | None = None
        unread, narrators = True, dict[str, Narrator]()
        changes = self._store.database.watch()
        while True:
            if not self._subscriptions:
                last, unread, narrators = None, True, {}
                self._live.clear()
            await self._wanted.wait()
            unread = changes.changed() or unread
            try:
                if last is None:
                    last = await run_in_threadpool(self._store.events.last_sequence)
                    self._live.set()
                if unread:
                    events = await run_in_threadpool(self._store.events.after, last)
                    for event in events:
                        expanded = await run_in_threadpool(self._expand, event)
                        last = event.sequence
                        self._distribute(event, expanded, narrators)
                    unread = False
            except SQLAlchemyError:
                logger.exception("Reading the event log failed; the feed retries", extra={"action": "feed_failed"})
                await asyncio.sleep(1)
            await asyncio.sleep(changes.interval_seconds)

    def _expand(self, event: Event) -> list[Event]:
        """Returns an event as it is, or the event of a download as one event for each job that waits for it."""
        model = downloaded_model(event)
        if model is None:
            return [event]
        waiting = self._store.reader.next_pending([model], limit=_MAX_WAITING)
        return [replace(event, job_id=job.id, type="updated", data=describe(job)) for job in waiting]

    def _distribute(self, event: Event, expanded: Sequence[Event], narrators: dict[str, Narrator]) -> None:
        """Sends an event to all streams. Each prefix has a narrator, because the messages hold links."""
        of_owners: dict[str | None, list[Event]] = {}
        for each in expanded:
            of_owners.setdefault(each.owner, []).append(each)
        if downloaded_model(event) is not None:
            of_owners.setdefault(None, [])  # wakes the streams of all jobs that wait for the download
        news: dict[str, list[News]] = {}
        for prefix in {subscription.prefix for subscription in self._subscriptions}:
            narrator = narrators.setdefault(prefix, Narrator())
            with under_prefix(prefix):
                news[prefix] = [
                    News(
                        messages=[(topic, encode(told)) for each in events for topic, told in narrator.narrate(each)],
                        sequence=event.sequence,
                        job_id=event.job_id,
                        owner=owner,
                    )
                    for owner, events in of_owners.items()
                ]
        for subscription in self._subscriptions:
            for item in news[subscription.prefix]:
                subscription.put(item)
