"""Live progress of one job, as Server-Sent Events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, cast

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from deployments.jobs.job import Event, Job, JobState
from serve_app.api.access.callers import Reading
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
    return StreamingResponse(
        _stream(serving, _feed(connection), caller.only, task_id, last_event_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _stream(
    serving: Services, feed: Feed, only: str | None, task_id: str, last: int | None
) -> AsyncIterator[str]:
    """Yields a job's rendered messages.

    It reads the event log by sequence number whenever the feed has an event of the job, so that no event is missed or
    repeated.
    """
    store, narrator = serving.store, Narrator()
    async with feed.subscribe(only) as subscription:
        if last is None:
            snapshot = await run_in_threadpool(store.snapshots.job, task_id)
            [job], last = snapshot.jobs, snapshot.sequence
            yield _render_job(job, last)
            if job.state.ended:
                return
        while not subscription.lagging:
            events = await run_in_threadpool(store.events.after, last, job_id=task_id)
            for event in events:
                last = event.sequence
                yield _render_event(narrator, event)
                if event.type == "deleted" or JobState(event.data["state"]).ended:
                    return
            if not events:
                job = await run_in_threadpool(store.reader.get, task_id)
                if job.state.ended:
                    yield _render_job(job, last)
                    return
            if not await _has_news(subscription, task_id, last):
                yield ": alive\n\n"


async def _has_news(subscription: Subscription, task_id: str, last: int) -> bool:
    """Waits for a new event of the job, and returns whether one arrived before the keep-alive was due."""
    try:
        async with asyncio.timeout(_KEEPALIVE_SECONDS):
            while await subscription.next_event(task_id) <= last:
                continue
            return True
    except TimeoutError:
        return False


def _render_event(narrator: Narrator, event: Event) -> str:
    """Renders an event's messages.

    Only the last one carries the event's number, so that a client whose stream breaks between them gets all of them
    again.
    """
    messages = [message for topic, message in narrator.narrate(event) if topic != ALERTS]
    return "".join(
        _render(kind, json.dumps(data), event.sequence if index == len(messages) - 1 else None)
        for index, (kind, data) in enumerate(messages)
    )


def _render_job(job: Job, number: int) -> str:
    return _render("task", json.dumps(TaskInfo.of(job).model_dump(mode="json")), number)


def _render(kind: str, data: str, number: int | None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {data}\n\n"
