"""Live progress: WebSockets and Server-Sent Events."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.service import LONG, Service, wait_until

_EVENTS = {
    "task_update",
    "detailed_generation_progress",
    "generation_stage",
    "model_loading_progress",
    "queue_update",
}
"""Types of messages that a socket may get about other jobs at any time."""


@pytest.fixture(params=["/ws", "/api/v1/ws"])
def socket(service: Service, request: pytest.FixtureRequest) -> Iterator[ClientConnection]:
    # A client with a full queue of unread messages would wait for its time limit when it closes.
    with connect(service.url.replace("http", "ws") + request.param, open_timeout=10, max_queue=None) as connection:
        first = json.loads(connection.recv(10))
        assert first["type"] == "connection_established"
        assert first["data"]["connection_id"]
        yield connection


def _ask(socket: ClientConnection, message: Any) -> dict[str, Any]:
    """Sends a message and returns the response to it."""
    socket.send(message if isinstance(message, str) else json.dumps(message))
    while (answer := json.loads(socket.recv(10)))["type"] in _EVENTS:
        continue
    return dict(answer)


def _read_until_completed(socket: ClientConnection, task_id: str) -> list[dict[str, Any]]:
    messages = []
    while True:
        message = json.loads(socket.recv(60))
        messages.append(message)
        if message["type"] == "task_update" and message["task_id"] == task_id and message["status"] == "completed":
            return messages


def test_messages_are_not_compressed_for_each_socket(socket: ClientConnection) -> None:
    assert socket.request is not None
    assert "permessage-deflate" in socket.request.headers["sec-websocket-extensions"]
    assert socket.protocol.extensions == []


def test_a_socket_reports_a_job_from_submission_to_completion(service: Service, socket: ClientConnection) -> None:
    task_id = service.submit(steps=4)
    messages = _read_until_completed(socket, task_id)
    updates = [message for message in messages if message["type"] == "task_update" and message["task_id"] == task_id]
    assert updates[0]["status"] == "pending"
    assert updates[-1]["output_path"] == f"/api/v1/outputs/{task_id}/video"
    assert updates[-1]["progress"] == 100
    assert updates[-1]["data"]["task_id"] == task_id
    progress = [update["progress"] for update in updates]
    assert progress == sorted(progress)
    assert {message["type"] for message in messages} == _EVENTS


def test_a_socket_gets_messages_of_its_topics_only(service: Service, socket: ClientConnection) -> None:
    for topic in ("generation_progress", "queue_updates"):
        answer = _ask(socket, {"type": "unsubscribe", "data": {"topic": topic}})
        assert (answer["type"], answer["data"]) == ("unsubscription_confirmed", {"topic": topic})
    service.finished()
    assert _ask(socket, {"type": "ping"})["type"] == "pong"
    assert _ask(socket, {"type": "subscribe", "data": {"topic": "queue_updates"}})["type"] == "subscription_confirmed"
    service.finished()
    for _ in range(3):  # the state of the queue, and changes of the job
        assert json.loads(socket.recv(10))["type"] == "queue_update"


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "5",
        "{}",
        '{"type": 5}',
        '{"type": "dance"}',
        '{"type": "subscribe", "data": {"topic": "x"}}',
        '{"type": "subscribe", "data": {"topic": []}}',
        '{"type": "subscribe", "data": 5}',
        "[" * 5000,
    ],
)
def test_a_bad_message_gets_an_error_and_the_socket_stays_open(message: str, socket: ClientConnection) -> None:
    assert _ask(socket, message)["type"] == "error"
    assert _ask(socket, {"type": "ping"})["type"] == "pong"


def test_a_binary_message_gets_an_error_and_the_socket_stays_open(socket: ClientConnection) -> None:
    socket.send(b"\x00\xff")
    while (answer := json.loads(socket.recv(10)))["type"] in _EVENTS:
        continue
    assert answer["type"] == "error"
    assert _ask(socket, {"type": "ping"})["type"] == "pong"


def _read_events(response: httpx.Response) -> Iterator[tuple[str, int | None, dict[str, Any]]]:
    kind, number = "", None
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "id":
            number = int(value)
        elif name == "data":
            yield kind, number, json.loads(value)
            number = None


def test_a_stream_starts_with_the_job_and_ends_when_the_job_ends(service: Service) -> None:
    task_id = service.submit(**LONG | {"steps": 20})
    with httpx.stream("GET", f"{service.url}/api/v1/generation/{task_id}/events", timeout=60) as response:
        events = list(_read_events(response))
    assert events[0][0] == "task"
    assert events[0][2]["id"] == task_id
    assert events[-1][1] is not None
    updates = [data for kind, _, data in events if kind == "task_update"]
    assert updates[-1]["status"] == "completed"


def test_a_resumed_stream_neither_misses_nor_repeats_events(service: Service) -> None:
    task_id = service.submit(**LONG | {"steps": 30})
    url = f"{service.url}/api/v1/generation/{task_id}/events"
    last = 0
    with httpx.stream("GET", url, timeout=60) as response:
        for _, number, data in _read_events(response):
            last = number or last
            if data.get("current_step", 0) >= 3 and number:
                break
    wait_until(lambda: service.task(task_id)["current_step"] >= 8)
    with httpx.stream("GET", url, headers={"Last-Event-ID": str(last)}, timeout=60) as response:
        rest = [(number, data) for _, number, data in _read_events(response)]
    numbers = [number for number, _ in rest if number]
    assert min(numbers) > last
    assert numbers == sorted(set(numbers))
    with httpx.stream("GET", url, headers={"Last-Event-ID": "0"}, timeout=60) as response:
        everything = [number for _, number, _ in _read_events(response) if number]
    assert [number for number in everything if number > last] == numbers


def test_the_stream_of_an_ended_job_reports_the_job_and_ends(service: Service) -> None:
    task = service.finished()
    with httpx.stream("GET", f"{service.url}/api/v1/generation/{task['id']}/events") as response:
        [(kind, _, data)] = list(_read_events(response))
    assert (kind, data["status"]) == ("task", "completed")


def test_a_resumed_stream_without_new_events_reports_the_job_and_ends(service: Service) -> None:
    task = service.finished()
    url = f"{service.url}/api/v1/generation/{task['id']}/events"
    with httpx.stream("GET", url, headers={"Last-Event-ID": "0"}) as response:
        last = max(number for _, number, _ in _read_events(response) if number)
    for number in (last, last + 1000, 2**63 - 1):
        with httpx.stream("GET", url, headers={"Last-Event-ID": str(number)}, timeout=10) as response:
            [(kind, _, data)] = list(_read_events(response))
        assert (kind, data["status"]) == ("task", "completed")
    assert httpx.get(url, headers={"Last-Event-ID": str(2**70)}).status_code == 400
