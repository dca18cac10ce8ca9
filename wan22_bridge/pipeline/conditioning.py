"""Conditioning of a denoising run: the text embeddings, the initial latents and the encoded images.

Tensor names carry their axes: B batch, C channels, T latent frames, H and W latent height and width,
L text tokens, D text width.
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.media.inputs import read_frames, read_image, read_last_frame
from wan22_bridge.media.videos import is_video
from wan22_bridge.models.latent_scale import to_unit_scale
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.samplers import add_noise, make_sampler
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.types import GenerationParams


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditioning:
    """The inputs of one denoising run, on the model's device."""

    latents_BCTHW: torch.Tensor
    """Initial latents in fp32: Gaussian noise, or a noisy video."""
    prompt_embeds_BLD: torch.Tensor
    """Embeddings of the prompt."""
    negative_embeds_BLD: torch.Tensor | None
    """Embeddings of the negative prompt; None for an unguided run."""
    image_BCTHW: torch.Tensor | None = None
    """Encoded input images. For TI2V: one latent frame. For I2V: the mask and the encoded video, 4+z channels."""
    noise_mask_BCTHW: torch.Tensor | None = None
    """TI2V with an image: 0 at the latents of the image, 1 at noise."""


class _Start(NamedTuple):
    """Initial latents, with the encoded image where the request has one."""

    latents_BCTHW: torch.Tensor
    image_BCTHW: torch.Tensor | None = None
    noise_mask_BCTHW: torch.Tensor | None = None


def prepare_conditioning(model: LoadedModel, params: GenerationParams, texts: TextCache, inputs: Path) -> Conditioning:
    """Runs `prepare_in_parts` to its end and returns its result."""
    parts = prepare_in_parts(model, params, texts, inputs)
    try:
        while True:
            next(parts)
    except StopIteration as end:
        conditioning: Conditioning = end.value
        return conditioning


@torch.no_grad()
def prepare_in_parts(
    model: LoadedModel, params: GenerationParams, texts: TextCache, inputs: Path
) -> Generator[None, None, Conditioning]:
    """Encodes the texts and the input files and draws the noise, as diffusers' Wan pipelines do.

    Yields between the parts, so that the caller can stop there. The noise comes from a CPU generator, so that a seed
    gives the same noise on every device.

    Args:
        model: the loaded model.
        params: the request.
        texts: the cache of text embeddings.
        inputs: the folder that contains the request's input files.

    Raises:
        InvalidRequest: an input file is unusable, or the model does not support it.
    """
    generator = torch.Generator("cpu").manual_seed(params.seed)
    prompt_embeds_BLD = texts.encode(model, params.prompt)
    yield
    negative_embeds_BLD = texts.encode(model, params.negative_prompt) if params.is_guided else None
    yield
    start = _prepare_start(model, params, inputs, generator)
    return Conditioning(
        latents_BCTHW=start.latents_BCTHW,
        prompt_embeds_BLD=prompt_embeds_BLD,
        negative_embeds_BLD=negative_embeds_BLD,
        image_BCTHW=start.image_BCTHW,
        noise_mask_BCTHW=start.noise_mask_BCTHW,
    )


def _prepare_start(model: LoadedModel, params: GenerationParams, inputs: Path, generator: torch.Generator) -> _Start:
    if params.video is not None:
        _check_video_to_video(model, params)
        return _Start(_noisy_video(model, params, inputs / params.video, generator))
    video_shape = 1, model.text.vae.config.z_dim, params.height, params.width, params.num_frames
    options = torch.float32, model.device, generator
    if params.image is None:
        return _Start(model.text.prepare_latents(*video_shape, *options))
    model.bring("vae")
    first_BCHW = _read_frame(model, params, inputs / params.image)
    last_BCHW = _read_frame(model, params, inputs / params.end_image) if params.end_image else None
    return _Start(*model.image.prepare_latents(first_BCHW, *video_shape, *options, last_image=last_BCHW))


def _check_video_to_video(model: LoadedModel, params: GenerationParams) -> None:
    suggestions = ["Use T2V-A14B or TI2V-5B, with a strength of at least 1 / steps."]
    if not model.spec.video:
        raise InvalidRequest(
            f"{model.spec.id} generates videos from an image, not from a video.",
            code="video_not_supported",
            param="video",
            suggestions=suggestions,
        )
    if params.steps_to_run < 1:
        raise InvalidRequest(
            f"strength {params.strength:g} leaves none of the {params.steps} steps to run.",
            code="strength_too_low",
            param="strength",
            suggestions=suggestions,
        )


def _noisy_video(model: LoadedModel, params: GenerationParams, path: Path, generator: torch.Generator) -> torch.Tensor:
    """Returns a video's latents with the noise level of the first step to run.

    Follows `WanVideoToVideoPipeline.prepare_latents` of diffusers 0.42.1.
    """
    vae = model.bring("vae")
    frames = read_frames(path, params.num_frames, params.width, params.height)
    video_BCTHW = VideoProcessor(vae_scale_factor=vae.config.scale_factor_spatial).preprocess_video(
        frames, height=params.height, width=params.width
    )
    encoded_BCTHW = vae.encode(video_BCTHW.to(model.device, vae.dtype)).latent_dist.mode().float()
    noise_BCTHW = randn_tensor(encoded_BCTHW.shape, generator=generator, device=model.device, dtype=torch.float32)
    sampler = make_sampler(params, model.device)
    return add_noise(sampler, to_unit_scale(vae, encoded_BCTHW), noise_BCTHW, params.steps - params.steps_to_run)


def _read_frame(model: LoadedModel, params: GenerationParams, path: Path) -> torch.Tensor:
    """Reads an input image, or a video's last frame to continue from, as [1, 3, height, width] in -1..1."""
    with path.open("rb") as file:
        continues_video = is_video(file.read(8))
    if continues_video:
        image = read_last_frame(path, params.width, params.height)
    else:
        image = read_image(path, params.width, params.height)
    frame: torch.Tensor = model.image.video_processor.preprocess(image, height=params.height, width=params.width)
    return frame.to(model.device, torch.float32)
