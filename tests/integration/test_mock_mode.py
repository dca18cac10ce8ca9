"""Mock mode of a running service: placeholder videos without a model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import Service
from wan22_bridge.media.writer import read_video_info

_URL = "/api/v1/system/generation-mode"


@pytest.fixture
def mock_mode(service: Service) -> Iterator[None]:
    with service.client() as client:
        client.put(_URL, json={"mode": "mock"}).raise_for_status()
        yield
        client.put(_URL, json={"mode": "real"}).raise_for_status()


def test_a_mock_job_ends_with_a_video_that_says_so(service: Service, mock_mode: None, tmp_path: Path) -> None:
    task = service.finished(resolution="320x192", num_frames=17, fps=12)
    assert task["is_mock"] is True
    assert task["result"]["is_mock"] is True
    assert task["result"]["generation_time_seconds"] < 5
    with service.client() as client:
        assert client.get(f"/v1/videos/{task['id']}").json()["is_mock"] is True
        assert client.get(f"/api/v1/outputs/{task['id']}").json()["is_mock"] is True
        (tmp_path / "video.mp4").write_bytes(client.get(task["output_path"]).content)
        assert client.get(f"/api/v1/outputs/{task['id']}/last_frame").is_success
    info = read_video_info(tmp_path / "video.mp4")
    assert (info.width, info.height, info.num_frames, info.fps) == (task["width"], task["height"], 17, 12)
    assert info.parameters["is_mock"] is True


def test_a_real_job_is_not_marked_as_mock(service: Service) -> None:
    task = service.finished()
    assert (task["is_mock"], task["result"]["is_mock"], task["mock_reason"]) == (False, False, None)
