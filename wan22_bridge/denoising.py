"""The denoising loop over diffusers' components, a step at a time.

It computes what `WanPipeline.__call__` and `WanImageToVideoPipeline.__call__` of diffusers 0.42.1 compute, in the
same order, so that the bits are the same. Owning the loop means that whoever iterates it can stop between steps.
"""

import time
from collections.abc import Generator
from dataclasses import dataclass

import torch
from diffusers import UniPCMultistepScheduler, WanTransformer3DModel

from wan22_bridge.conditioning import Conditioning
from wan22_bridge.errors import GenerationFailed
from wan22_bridge.loading import LoadedModel
from wan22_bridge.types import GenerationParams


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoisingStep:
    """One step that is done."""

    index: int
    """0 for the first."""
    total: int
    expert: str
    """`high_noise` or `low_noise`."""
    sigma: float
    seconds: float


@torch.no_grad()
def denoise(
    model: LoadedModel, params: GenerationParams, conditioning: Conditioning
) -> Generator[DenoisingStep, None, torch.Tensor]:
    """Denoises, yielding after every step; closing the generator stops it there.

    Returns:
        The latents [1, z, T, H, W] in fp32.

    Raises:
        GenerationFailed: the latents became NaN or infinite.
    """
    scheduler = UniPCMultistepScheduler.from_config(model.text.scheduler.config, flow_shift=params.flow_shift)
    scheduler.set_timesteps(params.steps, device=model.device)
    if params.image is None:
        scheduler.set_begin_index(0)
    latents_BCTHW = conditioning.latents_BCTHW
    boundary = _boundary_timestep(model, scheduler)
    for index, timestep in enumerate(scheduler.timesteps):
        started = time.perf_counter()
        high_noise = boundary is None or bool(timestep >= boundary)
        expert = model.text.transformer if high_noise else model.text.transformer_2
        scale = params.guidance_scale
        if not high_noise and params.guidance_scale_2 is not None:
            scale = params.guidance_scale_2
        inputs, timesteps = _model_inputs(model, conditioning, latents_BCTHW, timestep)
        velocity = _predict(expert, "cond", inputs, timesteps, conditioning.prompt_embeds_BLD)
        if conditioning.negative_embeds_BLD is not None:
            unguided = _predict(expert, "uncond", inputs, timesteps, conditioning.negative_embeds_BLD)
            velocity = unguided + scale * (velocity - unguided)
        latents_BCTHW = scheduler.step(velocity, timestep, latents_BCTHW, return_dict=False)[0]
        yield DenoisingStep(
            index=index,
            total=params.steps,
            expert="high_noise" if high_noise else "low_noise",
            sigma=float(scheduler.sigmas[index]),
            seconds=time.perf_counter() - started,
        )
    if conditioning.noise_mask_BCTHW is not None:
        latents_BCTHW = _keep_image(conditioning, latents_BCTHW)
    if not bool(torch.isfinite(latents_BCTHW).all()):
        raise GenerationFailed(
            "The latents became NaN or infinite.",
            code="non_finite_latents",
            suggestions=["Use a lower guidance scale.", "Use no quantisation, or another dtype."],
        )
    return latents_BCTHW


def _boundary_timestep(model: LoadedModel, scheduler: UniPCMultistepScheduler) -> float | None:
    """The timestep below which the low-noise expert takes over; None where there is one expert."""
    ratio: float | None = model.text.config.boundary_ratio
    return None if ratio is None else ratio * scheduler.config.num_train_timesteps


def _model_inputs(
    model: LoadedModel, conditioning: Conditioning, latents_BCTHW: torch.Tensor, timestep: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The transformer's input and its timestep: one for all tokens, or with TI2V one for each."""
    dtype = model.text.transformer.dtype
    if not model.text.config.expand_timesteps:
        inputs = latents_BCTHW
        if conditioning.image_BCTHW is not None:
            inputs = torch.cat([latents_BCTHW, conditioning.image_BCTHW], dim=1)
        return inputs.to(dtype), timestep.expand(latents_BCTHW.shape[0])
    if conditioning.noise_mask_BCTHW is None:
        mask_THW = torch.ones(latents_BCTHW.shape[2:], dtype=torch.float32, device=latents_BCTHW.device)
        inputs = latents_BCTHW
    else:
        mask_THW = conditioning.noise_mask_BCTHW[0][0]
        inputs = _keep_image(conditioning, latents_BCTHW)
    per_token = (mask_THW[:, ::2, ::2] * timestep).flatten()
    return inputs.to(dtype), per_token.unsqueeze(0).expand(latents_BCTHW.shape[0], -1)


def _keep_image(conditioning: Conditioning, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """The latents with the encoded image in its place."""
    mask, image = conditioning.noise_mask_BCTHW, conditioning.image_BCTHW
    assert mask is not None
    assert image is not None
    return (1 - mask) * image + mask * latents_BCTHW


def _predict(
    expert: WanTransformer3DModel,
    context: str,
    inputs: torch.Tensor,
    timesteps: torch.Tensor,
    text_embeds_BLD: torch.Tensor,
) -> torch.Tensor:
    """One forward pass: the velocity, shaped as the latents."""
    with expert.cache_context(context):
        velocity: torch.Tensor = expert(
            hidden_states=inputs, timestep=timesteps, encoder_hidden_states=text_embeds_BLD, return_dict=False
        )[0]
    return velocity
