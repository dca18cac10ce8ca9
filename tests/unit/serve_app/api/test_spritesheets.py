"""The routes that return the spritesheet of a completed video, over a real database and a real mp4."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from deployments.jobs.job import Job
from serve_app.api.application import make_api
from serve_app.api.services import Services
from serve_app.settings import Settings
from tests.http_api import open_services
from tests.jobs import make_job
from wan22_bridge.media.writer import VideoWriter


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return open_services(Settings(data_dir=tmp_path).with_absolute_paths())


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(make_api(services)) as opened:
        yield opened


def _completed(services: Services) -> Job:
    """Stores a completed job with a video of five frames, and without a spritesheet in its folder."""
    job = services.store.runner.claim(services.store.writer.submit(make_job()).id, lease_seconds=10)
    assert job is not None
    folder = services.storage.work.output_folder(job.id, job.fencing_token)
    folder.mkdir(parents=True)
    with VideoWriter(folder / "video.mp4", width=64, height=64, fps=16, parameters={}) as video:
        video.add(np.full((5, 64, 64, 3), 200, dtype=np.uint8))
    output = {"folder": f"outputs/{job.id}/{job.fencing_token}", "video": "video.mp4", "file_size_bytes": 5}
    result = {"generation_time_seconds": 1.0, "parameters_used": {}}
    return services.store.runner.complete(job.id, job.fencing_token, output=output, result=result)


@pytest.mark.parametrize("path", ["/api/v1/outputs/{}/spritesheet", "/v1/videos/{}/content?variant=spritesheet"])
def test_both_apis_return_a_spritesheet_whose_headers_describe_the_grid(
    path: str, client: TestClient, services: Services
) -> None:
    url = path.format(_completed(services).id)

    answer = client.get(url)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
    layout = {
        name: answer.headers[f"x-spritesheet-{name}"] for name in ("columns", "rows", "tile-width", "tile-height")
    }
    assert layout == {"columns": "3", "rows": "2", "tile-width": "64", "tile-height": "64"}
    assert answer.headers["x-spritesheet-frames"] == "0,1,2,3,4"
    assert Image.open(io.BytesIO(answer.content)).size == (3 * 64, 2 * 64)
    again = client.get(url, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_job_without_a_video_has_no_spritesheet(client: TestClient, services: Services) -> None:
    pending = services.store.writer.submit(make_job()).id

    for video_id, expected in ((pending, (409, "video_not_ready")), ("video_none", (404, "job_not_found"))):
        for url in (f"/api/v1/outputs/{video_id}/spritesheet", f"/v1/videos/{video_id}/content?variant=spritesheet"):
            answer = client.get(url)
            assert (answer.status_code, answer.json()["error"]["code"]) == expected
