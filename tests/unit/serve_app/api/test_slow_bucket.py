"""Handlers that wait for a slow bucket do not occupy the threads of the others."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.jobs.store import JobStore
from serve_app.api.services import _DECODER_THREADS, _STORAGE_THREADS
from tests.http_api import serving_api
from tests.jobs import make_job
from tests.pictures import png
from tests.service import wait_until

_CLIENTS = 60
"""More than all threads of the handlers together."""


class _Bucket(ThreadingHTTPServer):
    """A bucket that answers no request before `answering` is set. It then has no object."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.answering = threading.Event()
        self.lock = threading.Lock()
        self.waiting = 0
        self.most_waiting = 0


class _Request(BaseHTTPRequestHandler):
    server: _Bucket

    def do_GET(self) -> None:
        bucket = self.server
        with bucket.lock:
            bucket.waiting += 1
            bucket.most_waiting = max(bucket.waiting, bucket.most_waiting)
        self.rfile.read(int(self.headers.get("content-length", 0)))
        bucket.answering.wait()
        with bucket.lock:
            bucket.waiting -= 1
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    do_PUT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the output of the tests clean."""


@contextmanager
def _serving() -> Iterator[_Bucket]:
    bucket = _Bucket()
    thread = threading.Thread(target=bucket.serve_forever)
    thread.start()
    try:
        yield bucket
    finally:
        bucket.answering.set()
        bucket.shutdown()
        thread.join()
        bucket.server_close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Bucket]:
    with _serving() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield server


@contextmanager
def _opening(url: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Opens a client with as many connections as threads, and another client, which soon gives up."""
    limits = httpx.Limits(max_connections=_CLIENTS)
    first = httpx.Client(base_url=url, timeout=120, limits=limits)
    with first, httpx.Client(base_url=url, timeout=15) as other:
        yield first, other


def _complete_a_job(folder: Path) -> str:
    store = JobStore(f"sqlite:///{folder}/data/jobs.db")
    job_id = store.writer.submit(make_job()).id
    store.runner.claim(job_id, lease_seconds=60)
    output = {
        "folder": f"outputs/{job_id}/1",
        "video": "video.mp4",
        "thumbnail": "thumbnail.webp",
        "file_size_bytes": 1,
    }
    store.runner.complete(job_id, 1, output=output, result={"generation_time_seconds": 1.0})
    store.database.close()
    return job_id


@pytest.mark.parametrize("kind", ["videos", "uploads", "submissions with an image", "submissions with an upload"])
def test_a_slow_bucket_leaves_threads_for_the_handlers_that_do_not_use_it(
    kind: str, bucket: _Bucket, tmp_path: Path
) -> None:
    limit = _STORAGE_THREADS if kind == "videos" else _DECODER_THREADS
    with serving_api(tmp_path, storage_url="s3://videos/wan22") as url, _opening(url) as (client, other):
        job_id = _complete_a_job(tmp_path)

        def use_bucket(number: int) -> int:
            image = {"image" if kind.startswith("submissions") else "file": (f"{number}.png", png())}
            if kind == "videos":
                return client.get(f"/api/v1/outputs/{job_id}/video").status_code
            if kind == "uploads":
                return client.post("/api/v1/uploads", files=image).status_code
            fields: dict[str, Any] = {"prompt": "a cat", "model_type": "tiny-i2v"}
            if kind == "submissions with an upload":
                inner = {"extra_body": {"imagePath": "0" * 64}}
                return client.post("/v1/videos", json=fields | inner).status_code
            return client.post("/api/v1/generation/submit", data=fields, files=image).status_code

        with ThreadPoolExecutor(_CLIENTS) as threads:
            pending = [threads.submit(use_bucket, number) for number in range(_CLIENTS)]
            try:
                wait_until(lambda: bucket.waiting >= limit, seconds=30)
                assert other.get("/v1/models").is_success
                assert other.post("/api/v1/generation/submit", json={"prompt": "a cat"}).is_success
                assert other.post(f"/api/v1/queue/{job_id}/cancel").status_code == 409
                assert not any(each.done() for each in pending)
            finally:
                bucket.answering.set()
            assert {each.result() // 100 for each in pending} <= {2, 4, 5}
        assert bucket.most_waiting == limit


def test_too_many_uploads_at_once_are_told_to_come_again(
    bucket: _Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_app.api.services._WAITING_FILES", 5)
    count = _DECODER_THREADS + 5
    with serving_api(tmp_path, storage_url="s3://videos/wan22") as url, _opening(url) as (client, _):

        def upload(number: int) -> httpx.Response:
            return client.post("/api/v1/uploads", files={"file": (f"{number}.png", png())})

        with ThreadPoolExecutor(count + 1) as threads:
            pending = [threads.submit(upload, number) for number in range(count + 1)]
            try:
                wait_until(lambda: any(each.done() for each in pending), seconds=30)
                [refused] = [each.result() for each in pending if each.done()]
                assert refused.status_code == 503
                assert refused.json()["error"]["code"] == "decoders_busy"
                assert refused.headers["retry-after"] == "5"
            finally:
                bucket.answering.set()
