"""Quality of the built-in models and LoRAs on a few prompts; `benchmarks/tiny_quality.py` measures more."""

import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.tiny_scores import (
    Case,
    Judgment,
    draw_cases,
    end_likeness,
    frames_psnr,
    make_videos,
    score,
    shuffle,
)
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.types import LoraUse

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Scenes that were held out of the training."""
    return draw_cases(10)


@pytest.mark.parametrize("model_id", ["tiny-t2v", "tiny-ti2v"])
def test_videos_match_their_prompts(model_id: str, cases: list[Case], load: LoadModel) -> None:
    videos = make_videos(load(model_id), cases)

    found, by_chance = score(cases, videos), score(shuffle(cases), videos)
    assert found.mean >= 80
    assert by_chance.mean <= 45, "videos match other prompts more often than by chance"


@pytest.mark.parametrize("model_id", ["tiny-i2v", "tiny-ti2v"])
def test_videos_start_with_the_image_and_follow_the_motion_of_the_prompt(
    model_id: str, cases: list[Case], load: LoadModel, tmp_path: Path
) -> None:
    videos = make_videos(load(model_id), cases[:6], images=tmp_path)

    assert end_likeness(cases[:6], videos, 0) >= 24
    assert score(cases[:6], videos).motion >= 65


def test_videos_end_with_the_end_image(cases: list[Case], load: LoadModel, tmp_path: Path) -> None:
    videos = make_videos(load("tiny-i2v"), cases[:4], images=tmp_path, last=True)

    assert end_likeness(cases[:4], videos, 0) >= 20
    assert end_likeness(cases[:4], videos, -1) >= 20


@pytest.mark.parametrize("model_id", ["tiny-t2v", "tiny-i2v", "tiny-ti2v"])
def test_the_lightning_preset_gives_similar_videos_in_four_unguided_steps(
    model_id: str, cases: list[Case], load: LoadModel, tmp_path: Path
) -> None:
    model, images = load(model_id), tmp_path if model_id == "tiny-i2v" else None
    unguided: dict[str, Any] = {"steps": 4, "flow_shift": 5.0, "guidance_scale": 1.0}
    unguided |= {} if model.spec.guidance_scale_2 is None else {"guidance_scale_2": 1.0}

    distilled = make_videos(model, cases, images=images, preset="lightning")

    assert score(cases, distilled).mean >= 65
    usual = make_videos(model, cases[:5], images=images)
    without = make_videos(model, cases[:5], images=images, **unguided)
    assert _likeness(distilled[:5], usual) > _likeness(without, usual) + 0.5, (
        "the videos are no closer than without the LoRA"
    )


def _likeness(videos: list[Judgment], others: list[Judgment]) -> float:
    pairs = zip(videos, others, strict=True)
    return statistics.mean(frames_psnr(video.frames, other.frames) for video, other in pairs)


def test_the_style_becomes_more_visible_with_its_strength(load: LoadModel) -> None:
    cases = draw_cases(4, neon=True)

    def hollowness(strength: float) -> float:
        use = LoraUse(name="tiny-neon", high_noise_strength=strength, low_noise_strength=strength)
        return statistics.mean(video.hollowness for video in make_videos(load("tiny-t2v"), cases, loras=(use,)))

    without, half, whole = map(hollowness, (0.0, 0.5, 1.0))
    assert without < half < whole
    assert whole > without + 0.08
