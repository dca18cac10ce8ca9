"""The built-in models and LoRAs show what was asked for: a quick look, `benchmarks/tiny_quality.py` in small."""

import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.support.tiny_scores import (
    Case,
    Judgement,
    draw_cases,
    end_likeness,
    frames_psnr,
    make_videos,
    score,
    shuffle,
)
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.types import LoraUse


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


@pytest.mark.parametrize("model_id", ["tiny-t2v", "tiny-i2v", "tiny-ti2v"])
def test_four_distilled_steps_make_what_guidance_and_all_steps_make(
    model_id: str, cases: list[Case], load: LoadModel, tmp_path: Path
) -> None:
    model, images = load(model_id), tmp_path if model_id == "tiny-i2v" else None
    unguided: dict[str, Any] = {"steps": 4, "flow_shift": 5.0, "guidance_scale": 1.0}
    unguided |= {} if model.spec.guidance_scale_2 is None else {"guidance_scale_2": 1.0}

    distilled = make_videos(model, cases, images=images, preset="lightning")

    assert score(cases, distilled).mean >= 65
    usual = make_videos(model, cases[:5], images=images)
    without = make_videos(model, cases[:5], images=images, **unguided)
    assert _likeness(distilled[:5], usual) > _likeness(without, usual) + 0.5, "the LoRA does it"


def _likeness(videos: list[Judgement], others: list[Judgement]) -> float:
    pairs = zip(videos, others, strict=True)
    return statistics.mean(frames_psnr(video.frames, other.frames) for video, other in pairs)


def test_the_stronger_the_style_the_more_is_seen_of_it(load: LoadModel) -> None:
    cases = draw_cases(4, neon=True)

    def hollowness(strength: float) -> float:
        use = LoraUse(name="tiny-neon", high_noise_strength=strength, low_noise_strength=strength)
        return statistics.mean(video.hollowness for video in make_videos(load("tiny-t2v"), cases, loras=(use,)))

    without, half, whole = map(hollowness, (0.0, 0.5, 1.0))
    assert without < half < whole
    assert whole > without + 0.08
