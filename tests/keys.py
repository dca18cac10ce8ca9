"""An API that needs keys, and the keys of several owners."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from deployments.jobs.api_keys import Scope
from deployments.jobs.job import Job
from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import Settings
from tests.databases import FILE_NAME, write_database
from tests.jobs import make_job
from wan22_bridge.media.writer import VideoWriter

ALICE, BOB, ADMIN, READER, WRITER = "alice", "bob", "admin", "reader", "writer"
"""Names of the keys, which are the names of their owners too. `reader` and `writer` have one scope each."""
_SCOPES = {
    ALICE: (Scope.READ, Scope.SUBMIT),
    BOB: (Scope.READ, Scope.SUBMIT),
    ADMIN: (Scope.ADMIN,),
    READER: (Scope.READ,),
    WRITER: (Scope.SUBMIT,),
}


@dataclass(frozen=True, kw_only=True)
class KeyedApi:
    """The API over services of its own, where nothing runs the jobs."""

    services: Services
    client: TestClient
    keys: dict[str, str]
    """The text of each key by its name."""

    def headers(self, name: str) -> dict[str, str]:
        """Returns the headers with which a request sends a key."""
        return {"authorization": f"Bearer {self.keys[name]}"}

    def call(self, name: str, method: str, path: str, **options: Any) -> Any:
        """Sends a request with a key, and returns the response."""
        headers = self.headers(name) | options.pop("headers", {})
        return self.client.request(method, path, headers=headers, **options)

    def submit(self, name: str, **fields: Any) -> str:
        """Submits a job with a key, and returns its id. The prompt says whose it is."""
        answer = self.call(name, "POST", "/api/v1/generation/submit", json={"prompt": f"of {name}"} | fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["task_id"])

    def complete(self, owner: str) -> Job:
        """Stores a completed job with all of its files."""
        store = self.services.store
        submitted = store.writer.submit(make_job(owner=owner, webhook_url="https://example.com/hook"))
        job = store.runner.claim(submitted.id, lease_seconds=60)
        assert job is not None
        folder = self.services.storage.work.output_folder(job.id, job.fencing_token)
        folder.mkdir(parents=True)
        with VideoWriter(folder / "video.mp4", width=64, height=64, fps=16, parameters={}) as video:
            video.add(np.full((5, 64, 64, 3), 200, dtype=np.uint8))
        for name in ("thumbnail.webp", "last_frame.png"):
            Image.new("RGB", (64, 64)).save(folder / name)
        files = {"video": "video.mp4", "thumbnail": "thumbnail.webp", "last_frame": "last_frame.png"}
        output = {"folder": f"outputs/{job.id}/{job.fencing_token}", "file_size_bytes": 1_000_000, **files}
        result = {"generation_time_seconds": 1.0, "parameters_used": {}}
        return store.runner.complete(job.id, job.fencing_token, output=output, result=result)


@contextmanager
def open_keyed_api(folder: Path, **settings: Any) -> Iterator[KeyedApi]:
    """Opens the API on a data folder, with a key for each name."""
    if not (folder / FILE_NAME).exists():
        write_database(folder)
    parsed = Settings(data_dir=folder, **settings).with_absolute_paths()
    nobody = cast(Any, None)
    services = Services.open(parsed, dispatcher=nobody, downloader=nobody, needs_keys=True)
    keys = {name: services.store.keys.create(name, scopes)[1] for name, scopes in _SCOPES.items()}
    with TestClient(make_api(services), raise_server_exceptions=False) as client:
        yield KeyedApi(services=services, client=client, keys=keys)
