"""Live messages about all jobs and the service, over a WebSocket."""

import asyncio
import contextlib
import json
import uuid
from typing import Any, cast

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import JobNotFound
from deployments.jobs.limits import LimitExceeded
from deployments.jobs.snapshots import SnapshotReader
from deployments.jobs.store import JobStore
from serve_app.api.access.authentication import SUBPROTOCOL
from serve_app.api.access.callers import Reading
from serve_app.api.access.meter import meter_of
from serve_app.api.live.feed import Feed, News, StateRequest, Subscription
from serve_app.api.live.messages import FIRST_TOPICS, PROGRESS, QUEUE, TOPICS, Message, encode, job_update, queue_state
from serve_app.api.live.reports import Reports
from serve_app.api.services import services
from wan22_bridge.errors import NotReady

router = APIRouter(tags=["events"])

_TRY_AGAIN_LATER = 1013
_MAX_CHARACTERS = 10_000
"""Maximum length of a client's message. JSON of megabytes would become objects of gigabytes."""


@router.websocket("/ws")
@router.websocket("/api/v1/ws")
async def socket(websocket: WebSocket, caller: Reading) -> None:
    """Sends messages `{type, data}`. A new socket gets the present state of the jobs and the queue, and its changes."""
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
    serving = await services(websocket)
    try:
        with serving.streams.hold():
            await _serve(websocket, serving.store, caller.only)
    except NotReady as exc:
        await websocket.close(_TRY_AGAIN_LATER, exc.message)


async def _serve(websocket: WebSocket, store: JobStore, only: str | None) -> None:
    """Sends news and answers the client until one of them ends the connection."""
    feed, reports = cast(Feed, websocket.app.state.feed), cast(Reports, websocket.app.state.reports)
    async with feed.subscribe(only) as subscription:
        client = _Client(feed, reports, subscription)
        await websocket.send_text(encode(("connection_established", {"connection_id": uuid.uuid4().hex})))
        for topic in FIRST_TOPICS:
            client.join(topic)
        tasks = [
            asyncio.create_task(_send_news(websocket, subscription, _States(store.snapshots, only))),
            asyncio.create_task(_answer_client(websocket, client)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the client is gone
                for task in done:
                    if not task.cancelled():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def _send_news(websocket: WebSocket, subscription: Subscription, states: "_States") -> None:
    """Sends the unread items until the client has too many of them.

    A state is read when its turn comes. It holds at least all events that were sent before it, and the events that it
    holds already are not sent after it.
    """
    while not subscription.lagging:
        item = await subscription.next()
        if isinstance(item, StateRequest):
            for message in await states.read(item):
                await websocket.send_text(encode(message))
        else:
            for topic, text in states.without_known(item):
                if topic in subscription.topics:
                    await websocket.send_text(text)
    await websocket.close(_TRY_AGAIN_LATER, "The client read too slowly.")


class _States:
    """Reads states for one socket, and remembers which events they hold."""

    def __init__(self, snapshots: SnapshotReader, only: str | None) -> None:
        self._snapshots, self._only = snapshots, only
        self._newest = 0
        self._known: dict[tuple[str, str], int] = {}
        """Number of the last event that the client knows, by topic and job; the whole queue has no job."""

    async def read(self, request: StateRequest) -> list[Message]:
        """Reads a state, and returns its messages."""
        try:
            return await run_in_threadpool(self._read, request)
        except JobNotFound as exc:
            return [("error", {"message": exc.message, "code": exc.code, "task_id": request.task_id})]
        except SQLAlchemyError:
            return [("error", {"message": "The database can't be reached.", "code": "database_unavailable"})]

    def without_known(self, news: News) -> list[tuple[str, str]]:
        """Returns the messages of an event that no state has held yet."""
        if news.sequence > self._newest:
            self._known.clear()  # the events come in order, so nothing that a state holds follows
        if not news.sequence or not self._known:
            return list(news.messages)
        return [(topic, text) for topic, text in news.messages if not self._knows(topic, news)]

    def _knows(self, topic: str, news: News) -> bool:
        key = (topic, "" if topic == QUEUE else news.job_id)
        return news.sequence <= self._known.get(key, 0)

    def _read(self, request: StateRequest) -> list[Message]:
        if request.topic == QUEUE:
            queue = self._snapshots.queue(owner=self._only)
            self._know({(QUEUE, ""): queue.sequence})
            return [queue_state(queue)]
        task_id = request.task_id
        snapshots, owner = self._snapshots, self._only
        found = snapshots.current(owner=owner) if task_id is None else snapshots.job(task_id, owner=owner)
        self._know({(PROGRESS, job.id): found.sequence for job in found.jobs})
        return [job_update(job) for job in found.jobs]

    def _know(self, sequences: dict[tuple[str, str], int]) -> None:
        self._known |= sequences
        self._newest = max(self._newest, *sequences.values(), 0)


class _Client:
    """Carries out what one client asks for."""

    def __init__(self, feed: Feed, reports: Reports, subscription: Subscription) -> None:
        self._feed, self._reports, self._subscription = feed, reports, subscription

    def join(self, topic: str, task_id: str | None = None) -> None:
        """Subscribes to a topic, and requests its present state."""
        self._feed.join(self._subscription, topic)
        if topic in (PROGRESS, QUEUE):
            self._subscription.put(StateRequest(topic=topic, task_id=task_id))
        elif state := self._reports.current(topic):
            self._subscription.put(News.of(topic, state))

    def leave(self, topic: str) -> None:
        """Ends the subscription to a topic."""
        self._feed.leave(self._subscription, topic)


async def _answer_client(websocket: WebSocket, client: _Client) -> None:
    """Responds to the client's messages until it disconnects, or sends them faster than requests are allowed."""
    meter = meter_of(websocket)
    while (message := await websocket.receive())["type"] == "websocket.receive":
        try:
            meter.count_request(websocket.scope)
        except LimitExceeded as exc:
            await websocket.close(_TRY_AGAIN_LATER, exc.message[:120])
            return
        await _answer(websocket, client, message.get("text") or "")


async def _answer(websocket: WebSocket, client: _Client, text: str) -> None:
    """Carries out a client's message, and responds. The response to a subscription precedes the state."""
    try:
        topic, task_id, kind = _read(text)
    except ValueError as exc:
        await websocket.send_text(encode(("error", {"message": str(exc)})))
        return
    if kind == "ping":
        await websocket.send_text(encode(("pong", {})))
    elif kind == "subscribe":
        confirmed = {"topic": topic} | ({"task_id": task_id} if task_id else {})
        await websocket.send_text(encode(("subscription_confirmed", confirmed)))
        client.join(topic, task_id)
    else:
        client.leave(topic)
        await websocket.send_text(encode(("unsubscription_confirmed", {"topic": topic})))


def _read(text: str) -> tuple[str, str | None, str]:
    """Returns the topic, the task and the type of a client's message.

    Raises:
        ValueError: the message is malformed; the error says what was expected.
    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"The message has {len(text)} characters: expected at most {_MAX_CHARACTERS}.")
    try:
        message: Any = json.loads(text)
        kind, data = message["type"], message.get("data") or {}
        topic, task_id = (data.get("topic"), data.get("task_id")) if isinstance(data, dict) else (None, None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError('Expected a JSON object such as {"type": "ping"}.') from None
    if kind == "ping":
        return "", None, kind
    if kind not in ("subscribe", "unsubscribe"):
        raise ValueError(f"Unknown type {kind!r:.80}: expected subscribe, unsubscribe or ping.")
    if topic not in TOPICS:
        raise ValueError(f"Unknown topic {topic!r:.80}: expected one of {', '.join(TOPICS)}.")
    if task_id is not None and (topic != PROGRESS or not isinstance(task_id, str)):
        raise ValueError(f"task_id {task_id!r:.80}: expected a job's id, with the topic {PROGRESS}.")
    return topic, task_id, kind
