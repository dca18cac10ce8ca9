"""Follows the store's event log once for all streams of this replica, and turns events into the API's messages."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import Event, JobState
from deployments.jobs.store import JobStore
from serve_app.api.schemas import video_url

logger = logging.getLogger("ray.serve")

_BACKLOG = 1000
"""Events that a stream may be behind before it is cut off."""

PROGRESS, QUEUE = "generation_progress", "queue_updates"
TOPICS = (PROGRESS, QUEUE)

Message = tuple[str, dict[str, Any]]
"""A message's type and data."""


class Subscription:
    """One stream's events, in order. `lagging` once it was too slow; it then gets no more."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue(_BACKLOG)
        self.lagging = False

    def put(self, event: Event) -> None:
        """Adds an event unless the stream is too far behind."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            self.lagging = True

    async def next(self) -> Event:
        """The next event, once there is one."""
        return await self._events.get()


class Feed:
    """Tails the event log while anyone listens."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._subscriptions: set[Subscription] = set()
        self._wanted = asyncio.Event()
        self._live = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tails for as long as the context is open."""
        task = asyncio.create_task(self._tail())
        try:
            yield
        finally:
            task.cancel()

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """A subscription to every event that is committed from now on."""
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
                logger.exception("The event log can't be read", extra={"action": "feed_failed"})
                await asyncio.sleep(1)
            await asyncio.sleep(changes.interval_seconds)


class Narrator:
    """Turns one stream's events into messages; it remembers what it has said of each running job."""

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}

    def tell(self, event: Event) -> list[tuple[str, Message]]:
        """The messages of an event, each with its topic."""
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
