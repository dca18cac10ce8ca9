"""Prompts and images → what the denoising loop starts from.

Tensor names carry their axes: B batch, C channels, T latent frames, H and W latent height and width,
L text tokens, D text width.
"""

from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.media.images import open_image
from wan22_bridge.media.videos import is_video, read_frames, read_last_frame
from wan22_bridge.models.latent_scale import to_unit_scale
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.samplers import add_noise, set_scheduler
from wan22_bridge.types import GenerationParams

MAX_TEXT_TOKENS = 512
"""As Wan2.2 was trained; longer prompts are cut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditioning:
    """The inputs of one denoising run, on the model's device."""

    latents_BCTHW: torch.Tensor
    """Gaussian noise, fp32."""
    prompt_embeds_BLD: torch.Tensor
    negative_embeds_BLD: torch.Tensor | None
    """None where guidance is off."""
    image_BCTHW: torch.Tensor | None = None
    """The encoded first (and last) frame: for TI2V one latent frame, for I2V mask and video, 4+z channels."""
    noise_mask_BCTHW: torch.Tensor | None = None
    """TI2V with an image: 0 where the image stands, 1 where there is noise."""


class TextCache:
    """Text embeddings of the last few prompts, of all models: a negative prompt is the same for nearly every job."""

    def __init__(self, capacity: int = 32) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[tuple[str, str], torch.Tensor] = OrderedDict()

    @torch.no_grad()
    def encode(self, model: LoadedModel, text: str) -> torch.Tensor:
        """The embeddings [1, 512, D] of one text, in the transformer's dtype."""
        key = model.text_encoder_id, text
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        model.bring("text_encoder")
        embeds, _ = model.text.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=MAX_TEXT_TOKENS, device=model.device
        )
        self._entries[key] = embeds.to(model.dtype)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return self._entries[key]


def prepare_conditioning(model: LoadedModel, params: GenerationParams, texts: TextCache, inputs: Path) -> Conditioning:
    """What `prepare_in_parts` comes to, all at once."""
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
    """Encodes the prompt and the images and draws the noise, as diffusers' Wan pipelines do; yields between the parts.

    The noise comes from a CPU generator, so that a seed means the same video on every device.
    """
    generator = torch.Generator("cpu").manual_seed(params.seed)
    prompt_embeds = texts.encode(model, params.prompt)
    yield
    negative_embeds = texts.encode(model, params.negative_prompt) if params.guidance_scale > 1 else None
    yield
    if params.video is not None:
        latents = _noisy_video(model, params, inputs / params.video, generator)
        return Conditioning(latents_BCTHW=latents, prompt_embeds_BLD=prompt_embeds, negative_embeds_BLD=negative_embeds)
    if params.image is None:
        latents = model.text.prepare_latents(
            1,
            model.text.vae.config.z_dim,
            params.height,
            params.width,
            params.num_frames,
            torch.float32,
            model.device,
            generator,
        )
        return Conditioning(latents_BCTHW=latents, prompt_embeds_BLD=prompt_embeds, negative_embeds_BLD=negative_embeds)
    model.bring("vae")
    first_BCHW = _read_frame(model, params, inputs / params.image)
    last_BCHW = _read_frame(model, params, inputs / params.end_image) if params.end_image else None
    latents, image, *mask = model.image.prepare_latents(
        first_BCHW,
        1,
        model.text.vae.config.z_dim,
        params.height,
        params.width,
        params.num_frames,
        torch.float32,
        model.device,
        generator,
        last_image=last_BCHW,
    )
    return Conditioning(
        latents_BCTHW=latents,
        prompt_embeds_BLD=prompt_embeds,
        negative_embeds_BLD=negative_embeds,
        image_BCTHW=image,
        noise_mask_BCTHW=mask[0] if mask else None,
    )


def _noisy_video(model: LoadedModel, params: GenerationParams, path: Path, generator: torch.Generator) -> torch.Tensor:
    """A video's latents with as much noise as the first step that is run takes away.

    Follows `WanVideoToVideoPipeline.prepare_latents` of diffusers 0.42.1.
    """
    if not model.spec.video or params.steps_to_run < 1:
        raise InvalidRequest(
            f"strength {params.strength:g} leaves none of the {params.steps} steps to run."
            if model.spec.video
            else f"{model.spec.id} makes its videos from an image, not from a video.",
            code="strength_too_low" if model.spec.video else "video_not_supported",
            param="strength" if model.spec.video else "video",
            suggestions=["Use T2V-A14B or TI2V-5B, with a strength of at least 1 / steps."],
        )
    vae = model.bring("vae")
    frames = read_frames(path, params.num_frames, params.width, params.height)
    video_BCTHW = VideoProcessor(vae_scale_factor=vae.config.scale_factor_spatial).preprocess_video(
        frames, height=params.height, width=params.width
    )
    encoded_BCTHW = vae.encode(video_BCTHW.to(model.device, vae.dtype)).latent_dist.mode().float()
    noise_BCTHW = randn_tensor(encoded_BCTHW.shape, generator=generator, device=model.device, dtype=torch.float32)
    scheduler = set_scheduler(params, model.device)
    return add_noise(scheduler, to_unit_scale(vae, encoded_BCTHW), noise_BCTHW, params.steps - params.steps_to_run)


def _read_frame(model: LoadedModel, params: GenerationParams, path: Path) -> torch.Tensor:
    """An input image, or the last frame of a video to go on from, as [1, 3, height, width] in -1..1."""
    with path.open("rb") as file:
        continues = is_video(file.read(8))
    if continues:
        image = read_last_frame(path, params.width, params.height)
    else:
        image = open_image(path, params.width, params.height)
    frame: torch.Tensor = model.image.video_processor.preprocess(image, height=params.height, width=params.width)
    return frame.to(model.device, torch.float32)
