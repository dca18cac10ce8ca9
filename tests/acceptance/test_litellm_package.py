"""The `litellm` package works with the service unchanged."""

from pathlib import Path
from typing import Any

import pytest

from tests.service import Service, wait_until
from wan22_bridge.media.writer import read_video_info

pytestmark = pytest.mark.filterwarnings("ignore")  # Importing the package raises warnings of several kinds.


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else the package downloads prices when imported
    import litellm

    return litellm


def test_the_package_completes_its_flow(litellm: Any, service: Service, tmp_path: Path) -> None:
    where = {"api_base": f"{service.url}/v1", "api_key": "none", "custom_llm_provider": "openai"}
    video = litellm.video_generation(
        prompt="a red circle",
        model="tiny-t2v",
        seconds="1",
        size="96x64",
        extra_body={"steps": 2, "num_frames": 5},
        user="somebody",
        **where,
    )

    def ended(video_id: str) -> Any:
        found = litellm.video_status(video_id=video_id, **where)
        return found if found.status in ("completed", "failed") else None

    done = wait_until(lambda: ended(video.id))
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    (tmp_path / "a.mp4").write_bytes(litellm.video_content(video_id=video.id, **where))
    assert read_video_info(tmp_path / "a.mp4").width == 96
    assert video.id in [each["id"] for each in _items(litellm.video_list(limit=100, **where))]
    remixed = litellm.video_remix(video_id=video.id, prompt="a blue circle", **where)
    assert wait_until(lambda: ended(remixed.id)).status == "completed"
    with service.client() as client:
        for made in (video, remixed):
            assert client.delete(f"/v1/videos/{_plain(litellm, made.id)}").json()["deleted"] is True


def _items(answer: Any) -> list[dict[str, Any]]:
    """Returns the items of a list: a dictionary, an object or a plain list, depending on the package's version."""
    data = answer["data"] if isinstance(answer, dict) else getattr(answer, "data", None) or answer
    return [item if isinstance(item, dict) else item.model_dump() for item in data]


def _plain(litellm: Any, video_id: str) -> str:
    """Returns the service's id in an id of the package, which has no call to delete a video."""
    from litellm.types.videos.utils import extract_original_video_id

    return str(extract_original_video_id(video_id))
