"""Bit-exactness of the denoising loop and of the decoding against diffusers' pipelines."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.experts import Expert
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.decoding import decode_frames
from wan22_bridge.pipeline.denoising import Denoising, DenoisingStep
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.types import GenerationParams, ModelType

pytestmark = pytest.mark.slow

_CASES: dict[str, dict[str, Any]] = {
    "text": {"model": "tiny-t2v"},
    "text, guidance off": {"model": "tiny-t2v", "guidance_scale": 1.0, "guidance_scale_2": 1.0},
    "text, one step": {"model": "tiny-t2v", "steps": 1},
    "text, one frame": {"model": "tiny-t2v", "num_frames": 1},
    "text, negative prompt": {"model": "tiny-t2v", "negative_prompt": "blurry"},
    "first frame": {"model": "tiny-i2v", "image": "first.png"},
    "first and last frame": {"model": "tiny-i2v", "image": "first.png", "end_image": "last.png", "num_frames": 9},
    "text, Euler": {"model": "tiny-t2v", "scheduler": "euler"},
    "text, DPM++": {"model": "tiny-t2v", "scheduler": "dpm++", "flow_shift": 3.0},
    "first frame, Euler": {"model": "tiny-i2v", "image": "first.png", "scheduler": "euler", "steps": 3},
    "first frame, DPM++": {"model": "tiny-i2v", "image": "first.png", "scheduler": "dpm++"},
    "portrait, many steps": {"model": "tiny-t2v", "width": 64, "height": 96, "steps": 12, "num_frames": 13},
    "high guidance alone": {"model": "tiny-t2v", "guidance_scale": 7.5, "guidance_scale_2": 1.0, "seed": 99},
    "one expert, Euler": {"model": "tiny-ti2v", "guidance_scale_2": None, "scheduler": "euler"},
    "one expert, first frame, DPM++": {
        "model": "tiny-ti2v",
        "guidance_scale_2": None,
        "image": "first.png",
        "scheduler": "dpm++",
    },
    "one expert": {"model": "tiny-ti2v", "guidance_scale_2": None},
    "one expert, first frame": {"model": "tiny-ti2v", "guidance_scale_2": None, "image": "first.png"},
}
_TYPES = {"tiny-t2v": ModelType.T2V, "tiny-i2v": ModelType.I2V, "tiny-ti2v": ModelType.TI2V}


def _params(case: str) -> GenerationParams:
    changes = {"width": 96, "height": 64, "steps": 5, "num_frames": 5} | _CASES[case]
    return make_params(**changes, model_type=_TYPES[changes["model"]])


def _run_pipeline(model: LoadedModel, params: GenerationParams, images: Path, output_type: str) -> Any:
    """Generates the same video with diffusers alone."""
    pipeline = model.text if params.image is None else model.image
    before = pipeline.scheduler
    pipeline.scheduler = {
        "unipc": lambda: UniPCMultistepScheduler.from_config(before.config, flow_shift=params.flow_shift),
        "euler": lambda: FlowMatchEulerDiscreteScheduler(shift=params.flow_shift),
        "dpm++": lambda: DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=params.flow_shift
        ),
    }[params.scheduler]()
    inputs = {} if params.image is None else {"image": Image.open(images / params.image)}
    if params.end_image is not None:
        inputs["last_image"] = Image.open(images / params.end_image)
    try:
        return pipeline(
            prompt=params.prompt,
            negative_prompt=params.negative_prompt,
            height=params.height,
            width=params.width,
            num_frames=params.num_frames,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            guidance_scale_2=params.guidance_scale_2,
            generator=torch.Generator().manual_seed(params.seed),
            output_type=output_type,
            **inputs,
        ).frames
    finally:
        pipeline.scheduler = before


def _run_own(model: LoadedModel, params: GenerationParams, images: Path) -> tuple[list[DenoisingStep], torch.Tensor]:
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), images))
    steps = list(run.steps())
    return steps, run.latents_BCTHW


@pytest.mark.parametrize("case", _CASES)
def test_latents_equal_those_of_diffusers_bit_for_bit(case: str, load_exact: LoadModel, images: Path) -> None:
    params = _params(case)
    model = load_exact(params.model)
    steps, latents = _run_own(model, params, images)
    assert torch.equal(latents, _run_pipeline(model, params, images, "latent"))
    assert [step.index for step in steps] == list(range(params.steps))


@pytest.mark.parametrize("case", ["text", "first and last frame", "one expert, first frame", "text, one frame"])
def test_frames_equal_those_of_diffusers_bit_for_bit(case: str, load_exact: LoadModel, images: Path) -> None:
    params = _params(case)
    model = load_exact(params.model)
    _, latents = _run_own(model, params, images)
    frames = np.concatenate(list(decode_frames(model.text.vae, latents)))
    expected = _run_pipeline(model, params, images, "np")[0]
    assert frames.shape == (params.num_frames, params.height, params.width, 3)
    assert np.array_equal(frames, (expected * 255).round().astype(np.uint8))


def test_experts_change_once_at_the_models_boundary(load_exact: LoadModel, images: Path) -> None:
    params = _params("text")
    steps, _ = _run_own(load_exact("tiny-t2v"), params, images)
    experts = [step.expert for step in steps]
    assert experts == [name for name in Expert for _ in range(experts.count(name))]
    assert set(experts) == set(Expert)
    assert [step.sigma for step in steps] == sorted((step.sigma for step in steps), reverse=True)


def test_a_stopped_run_does_not_change_the_next(load_exact: LoadModel, images: Path) -> None:
    params = _params("text")
    model = load_exact(params.model)
    _, expected = _run_own(model, params, images)
    stopped = Denoising(model, params, prepare_conditioning(model, params, TextCache(), images)).steps()
    next(stopped)
    stopped.close()
    frames = decode_frames(model.text.vae, expected)
    next(frames)
    frames.close()
    _, latents = _run_own(model, params, images)
    assert torch.equal(latents, expected)


def test_a_guided_low_noise_expert_after_an_unguided_one_does_what_diffusers_does_step_by_step(
    load_exact: LoadModel, images: Path
) -> None:
    """Diffusers itself can't mix: its first scale decides for both experts. So the parts are compared one by one."""
    model = load_exact("tiny-t2v")
    mixed = replace(_params("text"), guidance_scale=1.0, guidance_scale_2=5.0)
    unguided = replace(mixed, guidance_scale_2=1.0)
    guided = replace(mixed, guidance_scale=5.0)
    after = {}
    for params in (mixed, unguided, guided):
        run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), images))
        after[params] = [(step.expert, run.latents_BCTHW) for step in run.steps()]
    high = sum(expert is Expert.HIGH_NOISE for expert, _ in after[mixed])
    assert 0 < high < len(after[mixed])
    for index, (_, latents) in enumerate(after[mixed]):
        same_as_unguided = torch.equal(latents, after[unguided][index][1])
        assert same_as_unguided is (index < high)
        assert not torch.equal(latents, after[guided][index][1])


def test_a_boundary_ratio_moves_the_change_of_experts_as_in_diffusers(load_exact: LoadModel, images: Path) -> None:
    model = load_exact("tiny-t2v")
    own, changed = _params("portrait, many steps"), replace(_params("portrait, many steps"), boundary_ratio=0.5)
    high = [
        sum(step.expert is Expert.HIGH_NOISE for step in _run_own(model, params, images)[0])
        for params in (own, changed)
    ]
    assert high[0] < high[1]
    before = model.text.config.boundary_ratio
    model.text.register_to_config(boundary_ratio=0.5)
    try:
        expected = _run_pipeline(model, changed, images, "latent")
    finally:
        model.text.register_to_config(boundary_ratio=before)
    assert torch.equal(_run_own(model, changed, images)[1], expected)
