"""Hostile files at the API: errors name the field and the limit, and leave nothing behind."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve_app.api.services import Services
from tests.hostile import png_with, slow_png
from tests.pictures import png
from tests.rejections import check_rejection
from tests.videos import mp4, ramp
from wan22_bridge.media import decoders as lines
from wan22_bridge.media import inputs
from wan22_bridge.media.inputs import iterate_frames
from wan22_bridge.media.sandbox import Limits


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[None]:
    """Keeps both decoders busy."""
    (tmp_path / "a.mp4").write_bytes(mp4(ramp(200, 512, 512)))
    running = [iterate_frames(tmp_path / "a.mp4", 200, 512, 512) for _ in range(lines.MAX_DECODERS)]
    for frames in running:
        next(frames)
    yield
    for frames in running:
        frames.close()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("busy")
def test_an_upload_that_finds_the_line_full_may_come_again(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_WAITING", 0)
    answer = client.post("/api/v1/uploads", files={"file": ("a.png", png(), "image/png")})
    assert check_rejection(answer, 503, "decoders_busy")["can_retry"] is True
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("path", "field", "fields"),
    [
        ("/api/v1/uploads", "file", {}),
        ("/api/v1/generation/submit", "image", {"prompt": "a cat"}),
        ("/v1/videos", "input_reference", {"prompt": "a cat"}),
    ],
)
def test_an_image_over_the_limit_is_rejected_by_the_clients_field_and_leaves_nothing(
    path: str,
    field: str,
    fields: dict[str, str],
    client: TestClient,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inputs, "CHECK", Limits(cpu_seconds=1, wall_seconds=100))
    answer = client.post(path, data=fields, files={field: ("a.png", slow_png(), "image/png")})
    error = check_rejection(answer, 400, "decoding_limit_exceeded")
    assert error["param"] == field
    assert "1 seconds of processor time" in error["message"]
    assert list(services.settings.data_dir.glob("inputs/*")) == []
    monkeypatch.undo()
    assert client.post(path, data=fields, files={field: ("a.png", png(), "image/png")}).is_success


def test_a_data_url_is_checked_like_a_file(client: TestClient) -> None:

    url = "data:image/png;base64," + base64.b64encode(png_with(width=60_000, height=60_000)).decode()
    answer = client.post("/v1/videos", json={"prompt": "a cat", "input_reference": {"image_url": url}})
    assert check_rejection(answer, 400, "image_too_large")["param"] == "input_reference"
