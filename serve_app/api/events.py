"""Live progress: one socket for everything, or Server-Sent Events for one job."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from deployments.jobs.job import Event, JobState
from serve_app.api.feed import TOPICS, Feed, Message, Narrator, Subscription
from serve_app.api.schemas import TaskInfo
from serve_app.api.services import Services, services

router = APIRouter(tags=["events"])

_TRY_AGAIN_LATER = 1013
_KEEPALIVE_SECONDS = 15.0


def _feed(connection: HTTPConnection) -> Feed:
    return cast(Feed, connection.app.state.feed)


@router.websocket("/ws")
@router.websocket("/api/v1/ws")
async def socket(websocket: WebSocket) -> None:
    """Every message is `{type, data}`; a new socket has both topics."""
    await websocket.accept()
    topics = set(TOPICS)
    await _send(websocket, ("connection_established", {"connection_id": uuid.uuid4().hex}))
    with _feed(websocket).subscribe() as subscription:
        sender = asyncio.create_task(_send_events(websocket, subscription, topics))
        try:
            while not sender.done():
                await _send(websocket, _answer(await websocket.receive_text(), topics))
        except (WebSocketDisconnect, KeyError, RuntimeError):
            return
        finally:
            sender.cancel()


async def _send_events(websocket: WebSocket, subscription: Subscription, topics: set[str]) -> None:
    narrator = Narrator()
    while not subscription.lagging:
        for topic, message in narrator.tell(await subscription.next()):
            if topic in topics:
                await _send(websocket, message)
    await websocket.close(_TRY_AGAIN_LATER, "The connection was too slow.")


async def _send(websocket: WebSocket, message: Message) -> None:
    kind, data = message
    flat = data if kind == "task_update" else {}
    await websocket.send_json(flat | {"type": kind, "data": data})


def _answer(text: str, topics: set[str]) -> Message:
    """Does what a client's message says, and what to answer."""
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
        return "error", {"message": f"Unknown topic {topic!r:.80}: there are {', '.join(TOPICS)}."}
    if kind == "subscribe":
        topics.add(topic)
        return "subscription_confirmed", {"topic": topic}
    topics.discard(topic)
    return "unsubscription_confirmed", {"topic": topic}


@router.get("/api/v1/generation/{task_id}/events", response_class=StreamingResponse)
async def stream(
    task_id: str, connection: HTTPConnection, last_event_id: Annotated[int | None, Header(ge=0)] = None
) -> StreamingResponse:
    """One job's messages as Server-Sent Events, to its end.

    A new stream begins with a `task` event, the whole job; with `Last-Event-ID` it goes on where it broke off.
    """
    serving = services(connection)
    await run_in_threadpool(serving.store.get, task_id)
    return StreamingResponse(
        _stream(serving, _feed(connection), task_id, last_event_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _stream(serving: Services, feed: Feed, task_id: str, last: int | None) -> AsyncIterator[str]:
    store, narrator = serving.store, Narrator()
    with feed.subscribe() as subscription:
        if last is None:
            last = await run_in_threadpool(store.events.last_sequence)
            job = await run_in_threadpool(store.get, task_id)
            yield _render("task", TaskInfo.of(job).model_dump_json(), last)
            if job.state.ended:
                return
        while True:
            missed = await run_in_threadpool(store.events.after, last, job_id=task_id)
            for event in missed:
                last = event.sequence
                yield _tell(narrator, event)
                if _is_last(event):
                    return
            if not missed:
                break
        while not subscription.lagging:
            try:
                event = await asyncio.wait_for(subscription.next(), _KEEPALIVE_SECONDS)
            except TimeoutError:
                yield ": alive\n\n"
                continue
            if event.job_id == task_id and event.sequence > last:
                yield _tell(narrator, event)
                if _is_last(event):
                    return


def _tell(narrator: Narrator, event: Event) -> str:
    """An event's messages; the last one carries its number, so that none is missed after a break between them."""
    messages = [message for _, message in narrator.tell(event)]
    return "".join(
        _render(kind, json.dumps(data), event.sequence if index == len(messages) - 1 else None)
        for index, (kind, data) in enumerate(messages)
    )


def _is_last(event: Event) -> bool:
    return event.type == "deleted" or JobState(event.data["state"]).ended


def _render(kind: str, data: str, number: int | None) -> str:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {data}\n\n"
