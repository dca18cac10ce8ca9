"""Live progress of one job, as Server-Sent Events."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from deployments.jobs.events import describe
from deployments.jobs.job import Event, Job, JobNotFound, JobState
from deployments.jobs.store import JobStore
from deployments.jobs.waiting import downloaded_model, stream_keys
from serve_app.api.access.callers import Reading
from serve_app.api.access.limiting import HOLDS_STREAM
from serve_app.api.http.slots import Slots
from serve_app.api.live.feed import Feed, Subscription
from serve_app.api.live.messages import ALERTS, Narrator
from serve_app.api.schemas.tasks import TaskInfo
from serve_app.api.services import Services, services

router = APIRouter(tags=["events"])

_KEEPALIVE_SECONDS = 15.0


def _feed(connection: HTTPConnection) -> Feed:
    return cast(Feed, connection.app.state.feed)


@router.get(
    "/api/v1/generation/{task_id}/events",
    dependencies=[HOLDS_STREAM],
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"description": "Events with data in JSON."}}}}},
)
async def stream_task_events(
    task_id: str,
    connection: HTTPConnection,
    caller: Reading,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**63 - 1)] = None,
) -> StreamingResponse:
    """Streams a job's messages as Server-Sent Events until the job has ended.

    A new stream starts with a `task` event, which holds the whole job. With the header `Last-Event-ID`, the stream
    resumes after that event.
    """
    serving = await services(connection)
    await run_in_threadpool(serving.store.reader.get, task_id, owner=caller.only)
    return _Stream(
        serving.streams,
        _stream(serving, _feed(connection), caller.only, task_id, last_event_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


class _Stream(StreamingResponse):
    """A response that holds one of the places for streams while it is sent."""

    def __init__(self, places: Slots, content: AsyncIterator[str], **options: Any) -> None:
        super().__init__(content, **options)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.hold():
            await super().__call__(scope, receive, send)


async def _stream(
    serving: Services, feed: Feed, only: str | None, task_id: str, last: int | None
) -> AsyncIterator[str]:
    """Yields a job's rendered messages.

    It reads the event log by sequence number whenever the feed has an event of the job, so that no event is missed or
    repeated.
    """
    store, narrator = serving.store, Narrator()
    async with feed.subscribe(only) as subscription:
        snapshot = await run_in_threadpool(store.snapshots.job, task_id)
        keys = stream_keys(snapshot.jobs[0])
        if last is None:
            [job], last = snapshot.jobs, snapshot.sequence
            yield _render_job(job, last)
            if job.state.ended:
                return
        while not subscription.lagging:
            events = await run_in_threadpool(store.events.after, last, job_ids=keys)
            for event in events:
                last = event.sequence
                if downloaded_model(event) is not None:
                    if (waiting := await run_in_threadpool(_waiting_job, store, task_id)) is not None:
                        yield _render_event(narrator, replace(event, type="updated", data=describe(waiting)), task_id)
                    continue
                yield _render_event(narrator, event, task_id)
                if event.type == "deleted" or JobState(event.data["state"]).ended:
                    return
            if not events:
                job = await run_in_threadpool(store.reader.get, task_id)
                if job.state.ended:
                    yield _render_job(job, last)
                    return
            if not await _has_news(subscription, keys, last):
                yield ": alive\n\n"


def _waiting_job(store: JobStore, task_id: str) -> Job | None:
    """Returns a job that still waits, with the progress of its model's download; None for any other job."""
    try:
        job = store.reader.get(task_id)
    except JobNotFound:
        return None
    return job if job.state is JobState.PENDING else None


async def _has_news(subscription: Subscription, keys: Sequence[str], last: int) -> bool:
    """Waits for a new event with one of the keys, and returns whether one arrived before the keep-alive was due."""
    try:
        async with asyncio.timeout(_KEEPALIVE_SECONDS):
            while await subscription.next_event(keys) <= last:
                continue
            return True
    except TimeoutError:
        return False


def _render_event(narrator: Narrator, event: Event, task_id: str) -> str:
    """Renders an event's messages about a job.

    Only the last one carries the event's number, so that a client whose stream breaks between them gets all of them
    again.
    """
    messages = [message for topic, message in narrator.narrate(replace(event, job_id=task_id)) if topic != ALERTS]
    return "".join(
        _render(kind, json.dumps(data), event.sequence if index == len(messages) - 1 else None)
        for index, (kind, data) in enumerate(messages)
    )


def _render_job(job: Job, number: int) -> str:
    return _render("task", json.dumps(TaskInfo.of(job).model_dump(mode="json")), number)


def _render(kind: str, data: str, number: int | None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {data}\n\n"
