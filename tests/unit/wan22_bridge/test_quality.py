"""The built-in models show what was asked for: a quick look at what `benchmarks/tiny_quality.py` measures in full."""

from pathlib import Path

import pytest

from benchmarks.support.tiny_scores import Case, draw_cases, end_likeness, make_videos, score, shuffle
from tests.unit.wan22_bridge.conftest import LoadModel


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Scenes that no model was trained on."""
    return draw_cases(10)


@pytest.mark.parametrize("model_id", ["tiny-t2v", "tiny-ti2v"])
def test_a_video_shows_what_its_prompt_says(model_id: str, cases: list[Case], load: LoadModel) -> None:
    videos = make_videos(load(model_id), cases)

    found, by_chance = score(cases, videos), score(shuffle(cases), videos)
    assert found.mean >= 80
    assert by_chance.mean <= 45, "videos held against other prompts are right by chance alone"


@pytest.mark.parametrize("model_id", ["tiny-i2v", "tiny-ti2v"])
def test_a_video_begins_with_the_picture_and_moves_as_its_prompt_says(
    model_id: str, cases: list[Case], load: LoadModel, tmp_path: Path
) -> None:
    videos = make_videos(load(model_id), cases[:6], images=tmp_path)

    assert end_likeness(cases[:6], videos, 0) >= 24
    assert score(cases[:6], videos).motion >= 65


def test_a_video_ends_with_the_last_picture(cases: list[Case], load: LoadModel, tmp_path: Path) -> None:
    videos = make_videos(load("tiny-i2v"), cases[:4], images=tmp_path, last=True)

    assert end_likeness(cases[:4], videos, 0) >= 20
    assert end_likeness(cases[:4], videos, -1) >= 20
