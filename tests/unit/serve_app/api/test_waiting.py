"""Streams of jobs that wait for the download of their model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession

from deployments.jobs.store import JobStore
from serve_app.api.services import Services
from tests.http_api import serving_api
from tests.jobs import make_job
from wan22_bridge.types import Progress, Stage

_MODEL = "tiny-t2v"
Told = dict[str, Any]


def _record(store: JobStore, percent: float) -> None:
    store.downloads.record(_MODEL, Progress(stage=Stage.DOWNLOADING_MODEL, percent=percent, eta_seconds=9.0))


def _receive(socket: WebSocketTestSession, kind: str, count: int) -> dict[str, Told]:
    """Receives messages until so many jobs have one of this type, and returns their data by job."""
    received = dict[str, Told]()
    while len(received) < count:
        message = socket.receive_json()
        if message["type"] == kind and message["data"]["task_id"] not in received:
            received[message["data"]["task_id"]] = message["data"]
    return received


def test_a_socket_reports_a_download_to_each_job_that_waits(client: TestClient, services: Services) -> None:
    store = services.store
    jobs = [store.writer.submit(make_job()).id for _ in range(3)]
    with client.websocket_connect("/ws") as socket:
        while socket.receive_json()["type"] != "queue_update":
            pass
        for percent in (20.0, 40.0):
            _record(store, percent)
            loading = _receive(socket, "model_loading_progress", 3)
            assert list(loading) == jobs
            assert {(data["stage"], data["progress"]) for data in loading.values()} == {("downloading_model", percent)}
        store.downloads.end(_MODEL)
        updates = _receive(socket, "task_update", 3)
        assert {data["stage"] for data in updates.values()} == {"queued"}


def _messages(lines: Iterator[str]) -> Iterator[tuple[str, Told]]:
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def test_the_stream_of_a_job_reports_its_models_download(tmp_path: Path) -> None:
    with serving_api(tmp_path) as url:
        store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
        job = store.writer.submit(make_job())
        store.writer.submit(make_job())
        seen = list[tuple[str, float]]()
        with httpx.stream("GET", f"{url}/api/v1/generation/{job.id}/events", timeout=60) as response:
            for kind, data in _messages(response.iter_lines()):
                if kind == "task":
                    _record(store, 20.0)
                if kind != "task_update":
                    continue
                seen.append((data["stage"], data["progress"]))
                if data["progress"] == 20:
                    _record(store, 40.0)
                elif data["progress"] == 40:
                    store.downloads.end(_MODEL)
                elif data["stage"] == "queued":
                    store.writer.request_cancel(job.id)
        assert seen == [("downloading_model", 20.0), ("downloading_model", 40.0), ("queued", 0.0), ("cancelled", 0.0)]
        store.database.close()
