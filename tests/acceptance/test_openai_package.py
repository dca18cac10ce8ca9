"""The official `openai` package works with the service unchanged."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.pictures import png
from tests.service import LONG, Service
from tests.videos import mp4, ramp
from wan22_bridge.media.writer import read_video_info

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

_EXTRA = {"num_frames": 5, "steps": 2}
_ONE_SECOND: Any = "1"
_BY_ID: Any = openai.omit
"""The package (3.54) rejects its own `{"id": …}` before sending it, so the id is sent in the extra body."""


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none") as opened:
        yield opened


def test_the_package_creates_polls_and_downloads_a_video(client: openai.OpenAI, tmp_path: Path) -> None:
    video = client.videos.create_and_poll(
        prompt="a red circle", model="tiny-t2v", extra_body={"seconds": "1", "size": "96x64", "steps": 2}
    )
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.model, video.seconds, video.size) == ("tiny-t2v", "1", "96x64")
    assert video.completed_at is not None
    client.videos.download_content(video.id).write_to_file(tmp_path / "a.mp4")
    info = read_video_info(tmp_path / "a.mp4")
    assert (info.width, info.height, info.num_frames) == (96, 64, 17)
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    assert thumbnail[8:12] == b"WEBP"


def test_the_package_sends_an_image(client: openai.OpenAI) -> None:
    video = client.videos.create_and_poll(
        prompt="it moves", model="I2V-A14B", input_reference=("a.png", png(), "image/png"), extra_body=_EXTRA
    )
    assert (video.status, video.model) == ("completed", "tiny-i2v")


def test_the_package_edits_extends_and_remixes_its_videos(client: openai.OpenAI) -> None:
    video = client.videos.create_and_poll(prompt="a red circle", extra_body=_EXTRA | {"size": "96x64"})
    by_id = {"video": {"id": video.id}, "steps": 4}
    made = [
        client.videos.edit(prompt="a blue circle", video=_BY_ID, extra_body=by_id),
        client.videos.extend(prompt="it goes on", seconds=_ONE_SECOND, video=_BY_ID, extra_body=by_id),
        client.videos.remix(video.id, prompt="a green circle"),
    ]
    assert {each.remixed_from_video_id for each in made} == {video.id}
    assert client.videos.delete(video.id).deleted

    edited, extended, remixed = (client.videos.poll(each.id) for each in made)
    assert [each.status for each in (edited, extended, remixed)] == ["completed"] * 3
    assert (edited.model, edited.seconds, edited.prompt) == ("tiny-t2v", video.seconds, "a blue circle")
    assert (extended.model, extended.size) == ("tiny-i2v", "96x64")
    assert float(extended.seconds) == float(video.seconds) + 1
    assert (remixed.model, remixed.seconds, remixed.size) == (video.model, video.seconds, video.size)


def test_the_package_edits_and_extends_a_file(client: openai.OpenAI, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(mp4(ramp(9), fps=8))
    edited = client.videos.edit(prompt="in snow", video=tmp_path / "a.mp4", extra_body={"steps": 4})
    with (tmp_path / "a.mp4").open("rb") as file:
        extended = client.videos.extend(
            prompt="it goes on",
            video=file,
            seconds=_ONE_SECOND,
            extra_body={"steps": 2, "model": "ti2v"},
        )
    edited, extended = client.videos.poll(edited.id), client.videos.poll(extended.id)
    assert (edited.status, edited.seconds, edited.remixed_from_video_id) == ("completed", "1", None)
    assert (extended.status, extended.seconds, extended.model) == ("completed", "2", "tiny-ti2v")


def test_the_package_pages_through_its_videos(client: openai.OpenAI) -> None:
    made = [client.videos.create_and_poll(prompt=str(index), extra_body=_EXTRA).id for index in range(3)]
    first = client.videos.list(limit=2)
    assert [video.id for video in first.data] == made[:0:-1]
    assert first.has_more
    second = client.videos.list(limit=2, after=first.data[-1].id)
    assert second.data[0].id == made[0]
    ids = [video.id for video in client.videos.list(limit=1, order="asc")]
    assert set(made) <= set(ids)
    assert len(ids) == len(set(ids))


def test_the_package_deletes_a_running_video(client: openai.OpenAI) -> None:
    video = client.videos.create(prompt="long", extra_body={"size": "192x192", "num_frames": 33, "steps": 100})
    assert video.status in ("queued", "in_progress")
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(video.id)


def test_the_package_reads_a_cancelled_job_as_failed(client: openai.OpenAI, service: Service) -> None:
    task_id = service.submit(**LONG)
    with service.client() as http:
        http.post(f"/api/v1/queue/{task_id}/cancel")
    service.wait_for(task_id, "cancelled")
    video = client.videos.retrieve(task_id)
    assert video.status == "failed"
    assert video.error is not None
    assert video.error.code == "cancelled"


def test_the_package_raises_its_own_errors_with_the_services_message(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="at most 2000") as caught:
        client.videos.create(prompt="x" * 3000)
    assert (caught.value.code, caught.value.param) == ("prompt_too_long", "prompt")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve("video_none")
    with pytest.raises(openai.NotFoundError, match="no job"):
        client.videos.edit(prompt="x", video=_BY_ID, extra_body={"video": {"id": "nope"}})
    with pytest.raises(openai.BadRequestError, match="complete mp4") as caught:
        client.videos.edit(prompt="x", video=b"text")
    assert (caught.value.code, caught.value.param) == ("invalid_video", "video")
    with pytest.raises(openai.BadRequestError, match="seconds"):
        client.videos.create(prompt="x", seconds="soon")  # type: ignore[arg-type]


def test_the_package_lists_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny-t2v", "tiny-i2v", "tiny-ti2v"]
    assert client.models.retrieve("tiny-t2v").owned_by == "wan22-serve"
