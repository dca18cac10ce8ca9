"""WebSockets: the present state, the changes that follow it, and the topics."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession

from deployments.downloader import Downloader
from deployments.jobs.job import Job
from deployments.jobs.replica_registry import LoadedInfo, ReplicaInfo
from serve_app.api.application import make_api
from serve_app.api.live.feed import Feed, News, Subscription
from serve_app.api.services import Services
from tests.jobs import make_job
from wan22_bridge.errors import OutOfMemory
from wan22_bridge.types import Progress, Stage

Received = dict[str, Any]


@contextmanager
def _connect(client: TestClient) -> Iterator[WebSocketTestSession]:
    with client.websocket_connect("/ws") as socket:
        assert socket.receive_json()["type"] == "connection_established"
        yield socket


def _receive_until(socket: WebSocketTestSession, kind: str, **fields: Any) -> list[Received]:
    """Receives messages until one has this type and these fields in its data, and returns all of them."""
    received = []
    while True:
        received.append(socket.receive_json())
        last = received[-1]
        if last["type"] == kind and fields.items() <= last["data"].items():
            return received


def _subscribe(socket: WebSocketTestSession, **data: Any) -> None:
    socket.send_json({"type": "subscribe", "data": data})
    _receive_until(socket, "subscription_confirmed", **data)


def _running(services: Services) -> Job:
    job = services.store.runner.claim(services.store.writer.submit(make_job()).id, lease_seconds=60)
    assert job is not None
    return job


def _record(services: Services, job: Job, step: int) -> None:
    progress = Progress(stage=Stage.GENERATING, current_step=step, total_steps=1000, percent=step / 10)
    services.store.runner.record_progress(job.id, job.fencing_token, progress)


def _record_all(services: Services, job: Job, number: int) -> None:
    for step in range(1, number + 1):
        _record(services, job, step)


def test_a_new_socket_gets_the_state_of_the_jobs_and_of_the_queue(client: TestClient, services: Services) -> None:
    ended, running = _running(services), _running(services)
    services.store.runner.complete(ended.id, ended.fencing_token, output={"folder": "x"}, result={})
    _record(services, running, 7)
    pending = services.store.writer.submit(make_job())
    with _connect(client) as socket:
        received = _receive_until(socket, "queue_update")
    updates = {message["task_id"]: message for message in received[:-1]}
    assert {message["type"] for message in received[:-1]} == {"task_update"}
    assert list(updates) == [ended.id, running.id, pending.id]
    assert [update["status"] for update in updates.values()] == ["completed", "processing", "pending"]
    assert updates[running.id]["current_step"] == 7
    assert updates[ended.id]["output_path"] == f"/api/v1/outputs/{ended.id}/video"
    counts = received[-1]["data"]
    assert (counts["total_tasks"], counts["pending_tasks"], counts["processing_tasks"]) == (3, 1, 1)
    assert counts["paused"] is False


def test_a_socket_that_connects_in_mid_job_neither_misses_nor_repeats_a_step(
    client: TestClient, services: Services
) -> None:
    job, last = _running(services), 150

    generator = threading.Thread(target=_record_all, args=(services, job, last))
    generator.start()
    for _ in range(3):
        with _connect(client) as socket:
            received = _receive_until(socket, "task_update", current_step=last)
        steps = [message["current_step"] for message in received if message["type"] == "task_update"]
        assert steps == list(range(steps[0], last + 1))
    generator.join()


def test_a_socket_hears_of_a_deletion_with_undo_and_of_its_end(client: TestClient, services: Services) -> None:
    job = _running(services)
    services.store.runner.complete(job.id, job.fencing_token, output={"folder": "x"}, result={})
    with _connect(client) as socket:
        _receive_until(socket, "queue_update", completed_tasks=1)
        services.store.videos.delete_later(job.id, seconds=60)
        _receive_until(socket, "queue_update", task_id=job.id, status="deleted")
        services.store.videos.restore(job.id)
        [heard] = _receive_until(socket, "queue_update", task_id=job.id, status="completed")
        assert heard["type"] == "queue_update", "no page reports the end of the job again"


def test_a_subscription_with_a_task_gets_the_state_of_a_job_that_ended_long_ago(
    client: TestClient, services: Services
) -> None:
    job = services.store.writer.request_cancel(services.store.writer.submit(make_job()).id)
    services.store.events.prune(older_than_seconds=-60)
    with _connect(client) as socket:
        assert [message["type"] for message in _receive_until(socket, "queue_update")] == ["queue_update"]
        _subscribe(socket, topic="generation_progress", task_id=job.id)
        [update] = _receive_until(socket, "task_update", task_id=job.id)
        assert update["status"] == "cancelled"


def test_a_subscription_with_an_unknown_task_gets_an_error_and_the_socket_stays_open(client: TestClient) -> None:
    with _connect(client) as socket:
        _subscribe(socket, topic="generation_progress", task_id="video_x\x00")
        assert _receive_until(socket, "error")[-1]["data"]["code"] == "job_not_found"
        socket.send_json({"type": "subscribe", "data": {"topic": "queue_updates", "task_id": "video_x"}})
        _receive_until(socket, "error")
        socket.send_json({"type": "ping"})
        _receive_until(socket, "pong")


def test_a_socket_gets_the_counts_when_it_subscribes_to_the_queue_again(client: TestClient, services: Services) -> None:
    with _connect(client) as socket:
        for topic in ("generation_progress", "queue_updates"):
            socket.send_json({"type": "unsubscribe", "data": {"topic": topic}})
            _receive_until(socket, "unsubscription_confirmed", topic=topic)
        services.store.writer.submit(make_job())
        _subscribe(socket, topic="queue_updates")
        assert _receive_until(socket, "queue_update", pending_tasks=1)


def test_running_jobs_are_reported_in_detail(client: TestClient, services: Services) -> None:
    with _connect(client) as socket:
        job = _running(services)
        loading = _receive_until(socket, "model_loading_progress")[-1]["data"]
        assert (loading["task_id"], loading["model"], loading["stage"]) == (job.id, "tiny-t2v", "loading_model")
        _record(services, job, 1)
        details = _receive_until(socket, "detailed_generation_progress", current_step=1)
        assert details[-1]["data"]["preview_url"] == f"/api/v1/generation/{job.id}/preview"
        assert "generation_stage" in {message["type"] for message in details}


def test_links_in_live_messages_begin_with_the_prefix_of_the_client(services: Services) -> None:
    settings = services.settings.model_copy(update={"root_path": "/studio", "trusted_proxies": ["10.0.0.0/8"]})
    api = make_api(replace(services, settings=settings))
    with TestClient(api, client=("10.0.0.1", 1)) as client, _connect(client) as own:
        other_headers = {"x-forwarded-prefix": "/other"}
        with client.websocket_connect("/ws", headers=other_headers) as other:
            _receive_until(own, "queue_update")
            _receive_until(other, "queue_update")
            job = _running(services)
            _record(services, job, 1)
            services.store.runner.complete(job.id, job.fencing_token, output={"folder": "x"}, result={})
            for socket, prefix in ((own, "/studio"), (other, "/other")):
                received = _receive_until(socket, "task_update", status="completed")
                [detail] = [item["data"] for item in received if item["data"].get("preview_url")]
                assert detail["preview_url"] == f"{prefix}/api/v1/generation/{job.id}/preview"
                assert received[-1]["output_path"] == f"{prefix}/api/v1/outputs/{job.id}/video"
        events = client.get(f"/api/v1/generation/{job.id}/events", headers={"last-event-id": "0"}).text
        assert f'"/studio/api/v1/generation/{job.id}/preview"' in events
        assert f'"/studio/api/v1/outputs/{job.id}/video"' in events


def test_statistics_arrive_while_a_socket_is_subscribed_to_them(client: TestClient) -> None:
    with _connect(client) as socket:
        _receive_until(socket, "queue_update")
        _subscribe(socket, topic="system_stats")
        first, second = (_receive_until(socket, "system_stats_update")[-1]["data"] for _ in range(2))
    assert 0 < first["ram_used_gb"] < first["ram_total_gb"]
    assert second["timestamp"] > first["timestamp"]


def test_a_model_is_reported_at_once_and_when_its_status_changes(services: Services, tmp_path: Path) -> None:
    downloader = Downloader(tmp_path / "models", services.served, cast=False)
    handle: Any = SimpleNamespace(availability=SimpleNamespace(remote=downloader.availability))
    services = replace(services, downloader=handle)
    with TestClient(make_api(services)) as client, _connect(client) as socket:
        _receive_until(socket, "queue_update")
        for topic in ("download_progress", "model_status"):
            _subscribe(socket, topic=topic)
        received = _receive_until(socket, "model_status_update", model_id=services.served[-1].id)
        assert {message["type"] for message in received} <= {"model_status_update", "download_progress_update"}
        model = LoadedInfo(model="tiny-t2v", plan=[], load_seconds=1.0, vram_mb=0.0)
        services.replicas.report(
            ReplicaInfo(
                id="r", deployment="generator", node="n", process_id=1, device="CPU", job_id=None, models=[model]
            )
        )
        changed = _receive_until(socket, "model_status_update", model_id="tiny-t2v", status="loaded")
        statuses = [message["data"]["status"] for message in changed if message["data"]["model_id"] == "tiny-t2v"]
        assert statuses[-1] == "loaded"
        assert set(statuses[:-1]) <= {"available"}, "the first reading may be sent twice: as the state, and as news"


def test_an_alert_is_raised_and_withdrawn(services: Services) -> None:
    answers = [True]

    async def check_health() -> None:
        if answers[0]:
            raise TimeoutError

    async def unhealthy_deployments() -> list[str]:
        return ["generator"]

    dispatcher: Any = SimpleNamespace(
        check_health=SimpleNamespace(remote=check_health),
        unhealthy_deployments=SimpleNamespace(remote=unhealthy_deployments),
    )
    with TestClient(make_api(replace(services, dispatcher=dispatcher))) as client, _connect(client) as socket:
        _subscribe(socket, topic="alerts")
        raised = _receive_until(socket, "alert", code="dispatcher_unavailable")[-1]["data"]
        assert (raised["level"], raised["active"]) == ("error", True)
        answers[0] = False
        _receive_until(socket, "alert", code="replicas_failing", level="warning", active=True)
        _receive_until(socket, "alert", code="dispatcher_unavailable", active=False)


@pytest.mark.parametrize("code", OutOfMemory.codes)
def test_a_job_that_runs_out_of_memory_is_an_alert(client: TestClient, services: Services, code: str) -> None:
    with _connect(client) as socket:
        _subscribe(socket, topic="alerts")
        job = _running(services)
        services.store.runner.fail(job.id, job.fencing_token, OutOfMemory("It needs 80 GB.", code=code).to_dict())
        alert = _receive_until(socket, "alert", task_id=job.id)[-1]["data"]
        assert (alert["code"], alert["message"]) == (code, "It needs 80 GB.")


def test_all_sockets_share_each_encoded_message_and_a_slow_one_delays_none(services: Services) -> None:
    number = 1100

    async def read(subscription: Subscription) -> list[News]:
        items: list[News] = []
        while len(items) < number:
            item = await subscription.next()
            assert isinstance(item, News)
            items.append(item)
        return items

    async def run() -> None:
        feed = Feed(services.store)
        async with (
            feed.running(),
            feed.subscribe(None) as slow,
            feed.subscribe(None) as one,
            feed.subscribe(None) as other,
        ):
            for subscription in (slow, one, other):
                feed.join(subscription, "alerts")
            reading = asyncio.gather(read(one), read(other))
            for index in range(number):
                feed.publish("alerts", [("alert", {"id": str(index)})])
                await asyncio.sleep(0)  # lets the readers read
            first, second = await reading
            assert all(left is right for left, right in zip(first, second, strict=True))
            assert slow.lagging
            assert not one.lagging

    asyncio.run(run())
