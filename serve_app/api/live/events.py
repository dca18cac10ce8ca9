"""Live progress: a WebSocket for all jobs, and Server-Sent Events for one job."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, WebSocket
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from deployments.jobs.job import Event, Job, JobState
from serve_app.api.live.feed import TOPICS, Feed, Message, Narrator, Subscription
from serve_app.api.schemas.tasks import TaskInfo
from serve_app.api.services import Services, services

router = APIRouter(tags=["events"])

_TRY_AGAIN_LATER = 1013
_KEEPALIVE_SECONDS = 15.0


def _feed(connection: HTTPConnection) -> Feed:
    return cast(Feed, connection.app.state.feed)


@router.websocket("/ws")
@router.websocket("/api/v1/ws")
async def socket(websocket: WebSocket) -> None:
    """Sends messages `{type, data}` about all jobs. A new socket is subscribed to all topics."""
    await websocket.accept()
    topics = set(TOPICS)
    async with _feed(websocket).subscribe() as subscription:
        await _send(websocket, ("connection_established", {"connection_id": uuid.uuid4().hex}))
        tasks = [
            asyncio.create_task(_send_events(websocket, subscription, topics)),
            asyncio.create_task(_answer_client(websocket, topics)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _answer_client(websocket: WebSocket, topics: set[str]) -> None:
    """Responds to the client's messages until it disconnects."""
    while (message := await websocket.receive())["type"] == "websocket.receive":
        await _send(websocket, _answer(message.get("text") or "", topics))


async def _send_events(websocket: WebSocket, subscription: Subscription, topics: set[str]) -> None:
    narrator = Narrator()
    while not subscription.lagging:
        for topic, message in narrator.narrate(await subscription.next()):
            if topic in topics:
                await _send(websocket, message)
    await websocket.close(_TRY_AGAIN_LATER, "The client read too slowly.")


async def _send(websocket: WebSocket, message: Message) -> None:
    kind, data = message
    flat = data if kind == "task_update" else {}
    await websocket.send_json(flat | {"type": kind, "data": data})


def _answer(text: str, topics: set[str]) -> Message:
    """Carries out a client's message, and returns the response."""
    try:
        message: Any = json.loads(text)
        kind, data = message["type"], message.get("data") or {}
        topic = data.get("topic") if isinstance(data, dict) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "error", {"message": 'Expected a JSON object such as {"type": "ping"}.'}
    if kind == "ping":
        return "pong", {}
    if kind not in ("subscribe", "unsubscribe"):
        return "error", {"message": f"Unknown type {kind!r:.80}: expected subscribe, unsubscribe or ping."}
    if topic not in TOPICS:
        return "error", {"message": f"Unknown topic {topic!r:.80}: expected one of {', '.join(TOPICS)}."}
    if kind == "subscribe":
        topics.add(topic)
        return "subscription_confirmed", {"topic": topic}
    topics.discard(topic)
    return "unsubscription_confirmed", {"topic": topic}


@router.get(
    "/api/v1/generation/{task_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream_task_events(
    task_id: str, connection: HTTPConnection, last_event_id: Annotated[int | None, Header(ge=0, le=2**63 - 1)] = None
) -> StreamingResponse:
    """Streams a job's messages as Server-Sent Events until the job has ended.

    A new stream starts with a `task` event, which holds the whole job. With the header `Last-Event-ID`, the stream
    resumes after that event.
    """
    serving = await services(connection)
    await run_in_threadpool(serving.store.reader.get, task_id)
    return StreamingResponse(
        _stream(serving, _feed(connection), task_id, last_event_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _stream(serving: Services, feed: Feed, task_id: str, last: int | None) -> AsyncIterator[str]:
    """Yields a job's rendered messages.

    It reads the event log by sequence number whenever the feed has an event of the job, so that no event is missed or
    repeated.
    """
    store, narrator = serving.store, Narrator()
    async with feed.subscribe() as subscription:
        if last is None:
            last = await run_in_threadpool(store.events.last_sequence)
            job = await run_in_threadpool(store.reader.get, task_id)
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
            while True:
                event = await subscription.next()
                if event.job_id == task_id and event.sequence > last:
                    return True
    except TimeoutError:
        return False


def _render_event(narrator: Narrator, event: Event) -> str:
    """Renders an event's messages.

    Only the last one carries the event's number, so that a client whose stream breaks between them gets all of them
    again.
    """
    messages = [message for _, message in narrator.narrate(event)]
    return "".join(
        _render(kind, json.dumps(data), event.sequence if index == len(messages) - 1 else None)
        for index, (kind, data) in enumerate(messages)
    )


def _render_job(job: Job, number: int) -> str:
    return _render("task", json.dumps(TaskInfo.of(job).model_dump(mode="json")), number)


def _render(kind: str, data: str, number: int | None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {data}\n\n"
