"""Webhooks of a running service arrive, also after the death of the process that delivers them."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.receiver import Receiver, receiving
from tests.service import WAN22, Service, environment, running_service, wait_until


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def _webhooks(service: Service, task_id: str) -> list[dict[str, Any]]:
    with service.client() as client:
        found: list[dict[str, Any]] = client.get("/api/v1/webhooks", params={"task_id": task_id}).json()["webhooks"]
    return found


def _wan22(service: Service, *arguments: str) -> str:
    done = subprocess.run(
        [WAN22, *arguments], env=environment(WAN22_URL=service.url), capture_output=True, text=True, check=True
    )
    return done.stdout


def test_webhooks_arrive_with_signatures_also_after_a_kill(tmp_path: Path, receiver: Receiver) -> None:
    with (
        receiving() as own,
        running_service(tmp_path, webhooks={"urls": [f"{receiver.url}/all"], "allow_private": True}) as service,
    ):
        secret = _wan22(service, "webhooks", "secret").strip()

        task = service.finished(webhook_url=f"{own.url}/own?token=hidden", metadata={"order": "7"})
        for found in (receiver.wait(), own.wait()):
            payload = found.verify(secret)
            assert payload == {"type": "video.completed", "timestamp": task["completed_at"], "data": task}
        assert receiver.requests[0].path == "/all"
        wait_until(lambda: {item["status"] for item in _webhooks(service, task["id"])} == {"delivered"})

        receiver.answering.clear()
        with service.client() as client:
            client.post("/api/v1/queue/pause").raise_for_status()
            task_id = service.submit()
            client.post(f"/api/v1/queue/{task_id}/cancel").raise_for_status()
        first = receiver.wait()
        [dispatcher] = service.replicas("dispatcher")
        dispatcher.kill()
        receiver.answering.set()
        second = receiver.wait(120)
        assert second.verify(secret)["type"] == "video.cancelled"
        assert (first.headers["webhook-id"], first.body) == (second.headers["webhook-id"], second.body)
        [delivered] = wait_until(lambda: [item for item in _webhooks(service, task_id) if item["delivered_at"]])
        assert (delivered["status"], delivered["attempts"]) == ("delivered", 2)

        assert _wan22(service, "webhooks", "replay", delivered["id"]) == "The webhook is pending.\n"
        third = receiver.wait()
        third.verify(secret)
        assert third.headers["webhook-id"] == delivered["id"]
        [listed] = json.loads(_wan22(service, "webhooks", "list", "--job", task_id, "--json"))
        assert listed["url"] == f"{receiver.url}/…"
    log = service.log.read_text()
    assert secret not in log
    assert "hidden" not in log
