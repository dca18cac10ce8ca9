"""Follows the store's event log for all streams of this replica, and converts events into the API's messages."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.events import QUEUE_CHANGED
from deployments.jobs.job import Event, JobState
from deployments.jobs.store import JobStore
from serve_app.api.schemas.links import video_url

logger = logging.getLogger("ray.serve")

_BACKLOG = 1000
"""Maximum number of unread events of a stream, which is closed beyond that."""

PROGRESS, QUEUE = "generation_progress", "queue_updates"
TOPICS = (PROGRESS, QUEUE)

Message = tuple[str, dict[str, Any]]
"""Type and data of a message."""


class Subscription:
    """The unread events of one stream, in order.

    Attributes:
        lagging: whether the stream read too slowly. It then gets no more events.
    """

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue(_BACKLOG)
        self.lagging = False

    def put(self, event: Event) -> None:
        """Adds an event, or sets `lagging` if there are too many unread ones."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            self.lagging = True

    async def next(self) -> Event:
        """Waits for the next event and returns it."""
        return await self._events.get()


class Feed:
    """Reads the event log while there are subscriptions, and distributes new events to them."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._subscriptions: set[Subscription] = set()
        self._wanted = asyncio.Event()
        self._live = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reads the event log in the background while the context is open."""
        task = asyncio.create_task(self._tail())
        try:
            yield
        finally:
            task.cancel()

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """Returns a context with a subscription to all events that are committed from now on."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        self._wanted.set()
        try:
            await self._live.wait()
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            if not self._subscriptions:
                self._wanted.clear()

    async def _tail(self) -> None:
        last: int | None = None
        unread = True
        changes = self._store.database.watch()
        while True:
            if not self._subscriptions:
                last, unread = None, True
                self._live.clear()
            await self._wanted.wait()
            unread = changes.changed() or unread
            try:
                if last is None:
                    last = await run_in_threadpool(self._store.events.last_sequence)
                    self._live.set()
                if unread:
                    events = await run_in_threadpool(self._store.events.after, last)
                    unread = False
                    for event in events:
                        last = event.sequence
                        for subscription in self._subscriptions:
                            subscription.put(event)
            except SQLAlchemyError:
                logger.exception("Reading the event log failed; the feed retries", extra={"action": "feed_failed"})
                await asyncio.sleep(1)
            await asyncio.sleep(changes.interval_seconds)


class Narrator:
    """Converts the events of one stream into messages.

    It remembers the last stage of each running job, because a change of the stage has a message of its own.
    """

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}

    def narrate(self, event: Event) -> list[tuple[str, Message]]:
        """Returns the messages of an event, each with its topic."""
        if event.type == QUEUE_CHANGED:
            return [(QUEUE, ("queue_update", event.data))]
        data, state = event.data, JobState(event.data["state"])
        if event.type == "deleted":
            self._stages.pop(event.job_id, None)
            return [(QUEUE, ("queue_update", {"task_id": event.job_id, "status": "deleted"}))]
        steps = {name: data[name] for name in ("stage", "progress", "current_step", "total_steps")}
        update = {
            "task_id": event.job_id,
            "status": state.value,
            "message": _describe(state, data),
            "output_path": video_url(event.job_id) if state is JobState.COMPLETED else None,
            "eta_seconds": data["eta_seconds"],
            "attempt": data["attempt"],
            "error": data["error"],
        }
        messages: list[tuple[str, Message]] = [(PROGRESS, ("task_update", update | steps))]
        if self._stages.get(event.job_id) != data["stage"]:
            self._stages[event.job_id] = data["stage"]
            messages.append((PROGRESS, ("generation_stage", {"task_id": event.job_id, "stage": data["stage"]})))
            messages.append((QUEUE, ("queue_update", {"task_id": event.job_id, "status": state.value})))
        if state is JobState.PROCESSING:
            detail = {"task_id": event.job_id, "estimated_time_remaining": data["eta_seconds"]}
            messages.append((PROGRESS, ("detailed_generation_progress", detail | steps)))
        if state.ended:
            self._stages.pop(event.job_id, None)
        return messages


def _describe(state: JobState, data: dict[str, Any]) -> str:
    if state is JobState.FAILED and data["error"]:
        return str(data["error"]["message"])
    if state is JobState.PROCESSING and data["cancel_requested"]:
        return "cancelling"
    if state is JobState.PROCESSING and data["stage"] == "generating":
        return f"step {data['current_step']} of {data['total_steps']}"
    return str(data["stage"]).replace("_", " ")
