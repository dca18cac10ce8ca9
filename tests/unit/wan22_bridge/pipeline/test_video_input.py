"""Video-to-video generation and video continuation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVideoToVideoPipeline

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.unit.wan22_bridge.likeness import denoise, diffusers_scheduler, psnr
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.experts import Expert
from wan22_bridge.media.inputs import read_frames, read_last_frame
from wan22_bridge.media.writer import VideoWriter
from wan22_bridge.options import SchedulerName
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.snapshots import Snapshot
from wan22_bridge.pipeline.text_cache import TextCache

pytestmark = pytest.mark.slow

PARAMS = make_params(
    width=96, height=64, num_frames=9, steps=10, flow_shift=3.0, video="video.mp4", strength=0.4, guidance_scale_2=2.5
)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with video.mp4: 13 frames of 128x64 pixels, from dark to bright gray."""
    frames = np.linspace(20, 230, 13, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 128, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "video.mp4", width=128, height=64, fps=16, parameters={}) as video:
        video.add(frames)
    return tmp_path


def test_the_first_frames_are_read_and_resized(videos: Path) -> None:
    frames = read_frames(videos / "video.mp4", 9, 96, 64)

    assert [frame.size for frame in frames] == [(96, 64)] * 9
    grays = [np.asarray(frame).mean() for frame in frames]
    assert grays == sorted(grays)
    assert abs(np.asarray(read_last_frame(videos / "video.mp4", 96, 64)).mean() - 230) < 4


@pytest.mark.parametrize("scheduler", SchedulerName)
def test_video_to_video_equals_diffusers_bit_for_bit(
    scheduler: SchedulerName, load_exact: LoadModel, videos: Path
) -> None:
    model, params = load_exact("tiny-t2v"), replace(PARAMS, scheduler=scheduler)
    pipeline = WanVideoToVideoPipeline(
        tokenizer=model.text.tokenizer,
        text_encoder=model.text.text_encoder,
        # The pipeline has one expert. At this strength, only the low-noise expert runs.
        transformer=model.text.transformer_2,
        vae=model.text.vae,
        scheduler=diffusers_scheduler(scheduler, flow_shift=3.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        video=read_frames(videos / "video.mp4", 9, 96, 64),
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        height=params.height,
        width=params.width,
        num_inference_steps=params.steps,
        strength=params.strength,
        guidance_scale=params.guidance_scale_2,
        generator=torch.Generator().manual_seed(params.seed),
        output_type="latent",
    ).frames

    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), videos))
    steps = list(run.steps())

    assert [step.expert for step in steps] == [Expert.LOW_NOISE] * 4
    assert [(step.index, step.total) for step in steps] == [(index, 4) for index in range(4)]
    assert torch.equal(run.latents_BCTHW, expected)


def test_a_higher_strength_changes_more_of_the_video(load_exact: LoadModel, videos: Path) -> None:
    model = load_exact("tiny-t2v")
    source = prepare_conditioning(model, replace(PARAMS, steps=1000, strength=0.001), TextCache(), videos)

    likeness = [
        psnr(denoise(model, replace(PARAMS, strength=strength), videos), source.latents_BCTHW)
        for strength in (0.1, 0.5, 1.0)
    ]

    assert likeness == sorted(likeness, reverse=True)
    assert likeness[0] > likeness[-1] + 3


def test_video_to_video_resumes_from_a_snapshot_to_the_same_bits(load_exact: LoadModel, videos: Path) -> None:
    model = load_exact("tiny-t2v")

    def begin(snapshot: Snapshot | None = None) -> Denoising:
        return Denoising(model, PARAMS, prepare_conditioning(model, PARAMS, TextCache(), videos), snapshot)

    whole, stopped = begin(), begin()
    list(whole.steps())
    steps = stopped.steps()
    next(steps), next(steps)
    rest = begin(stopped.snapshot())
    assert [step.index for step in rest.steps()] == [2, 3]

    assert torch.equal(rest.latents_BCTHW, whole.latents_BCTHW)


@pytest.mark.parametrize("model_id", ["tiny-i2v", "tiny-ti2v"])
def test_video_continuation_equals_generation_from_the_last_frame(
    model_id: str, load_exact: LoadModel, videos: Path
) -> None:
    model = load_exact(model_id)
    read_last_frame(videos / "video.mp4", 96, 64).save(videos / "last.png")
    params = replace(PARAMS, model=model_id, model_type=model.spec.type, video=None, steps=3)
    params = replace(params, guidance_scale_2=model.spec.guidance_scale_2)

    continued, from_image = (denoise(model, replace(params, image=name), videos) for name in ("video.mp4", "last.png"))

    assert torch.equal(continued, from_image)


def test_progress_of_video_to_video_counts_only_the_steps_to_run(models_dir: Path, videos: Path) -> None:
    bridge = ModelIntegrationBridge()
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))

    reports = list(bridge.generate(model, PARAMS, videos / "out", inputs=videos))

    assert {progress.total_steps for progress in reports} == {4}
    assert max(progress.current_step for progress in reports) == 4
    assert (videos / "out" / "video.mp4").exists()


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no video at all": (lambda path: path.write_bytes(b"garbage"), {}, "can't be read"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:200]), {}, "can't be read"),
    "too short": (lambda path: None, {"num_frames": 17}, "has only 13 frames: 17 are needed"),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_unusable_video_is_rejected_with_the_reason(bad: str, load_exact: LoadModel, videos: Path) -> None:
    spoil, changes, reason = BAD[bad]
    spoil(videos / "video.mp4")

    with pytest.raises(InvalidRequest, match=reason):
        denoise(load_exact("tiny-t2v"), replace(PARAMS, **changes), videos)


def test_continuation_of_a_truncated_video_is_rejected(load_exact: LoadModel, videos: Path) -> None:
    path = videos / "video.mp4"
    path.write_bytes(path.read_bytes()[:200])
    model = load_exact("tiny-i2v")
    params = replace(PARAMS, model="tiny-i2v", model_type=model.spec.type, video=None, image="video.mp4")

    with pytest.raises(InvalidRequest, match="can't be read"):
        denoise(model, params, videos)


def test_a_too_low_strength_or_an_image_model_rejects_the_video(load_exact: LoadModel, videos: Path) -> None:
    with pytest.raises(InvalidRequest, match="leaves none of the 10 steps"):
        denoise(load_exact("tiny-t2v"), replace(PARAMS, strength=0.05), videos)
    model = load_exact("tiny-i2v")
    with pytest.raises(InvalidRequest, match="not from a video"):
        denoise(model, replace(PARAMS, model="tiny-i2v", model_type=model.spec.type), videos)
