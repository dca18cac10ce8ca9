"""The flow's velocity as an expert predicts it, with classifier-free guidance.

The operations and their order are those of `WanPipeline.__call__` and `WanImageToVideoPipeline.__call__` of
diffusers 0.42.1.

Tensor names carry their axes: B batch, C channels, T latent frames, H and W latent height and width,
L text tokens, D text width.
"""

import torch
from diffusers import WanTransformer3DModel

from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.conditioning import Conditioning


class GuidedVelocity:
    """Predicts velocities for one run: with the prompt, and if guided also with the negative prompt."""

    def __init__(self, model: LoadedModel, conditioning: Conditioning, *, batched: bool) -> None:
        """Takes the run's conditioning.

        Args:
            model: the loaded model.
            conditioning: the run's inputs.
            batched: whether both guidance passes run as one batch.
        """
        self._model = model
        self._conditioning = conditioning
        self._both_embeds_BLD: torch.Tensor | None = None
        if batched and conditioning.negative_embeds_BLD is not None:
            self._both_embeds_BLD = torch.cat([conditioning.prompt_embeds_BLD, conditioning.negative_embeds_BLD])

    def predict(
        self,
        expert: WanTransformer3DModel,
        latents_BCTHW: torch.Tensor,
        timestep: torch.Tensor,
        guidance_scale: float | None,
    ) -> torch.Tensor:
        """Returns the velocity [B, C, T, H, W] of noisy latents at a timestep.

        Args:
            expert: the transformer that predicts.
            latents_BCTHW: the noisy latents.
            timestep: the timestep, a scalar.
            guidance_scale: weight of the prompt's direction; None predicts with the prompt alone.
        """
        conditioning = self._conditioning
        inputs, timesteps = _expert_inputs(self._model, conditioning, latents_BCTHW, timestep)
        if guidance_scale is None or conditioning.negative_embeds_BLD is None:
            return _predict(expert, "cond", inputs, timesteps, conditioning.prompt_embeds_BLD)
        if self._both_embeds_BLD is not None:
            both = torch.cat([inputs, inputs]), torch.cat([timesteps, timesteps])
            velocity, unguided = _predict(expert, "cond", *both, self._both_embeds_BLD).chunk(2)
        else:
            velocity = _predict(expert, "cond", inputs, timesteps, conditioning.prompt_embeds_BLD)
            unguided = _predict(expert, "uncond", inputs, timesteps, conditioning.negative_embeds_BLD)
        return unguided + guidance_scale * (velocity - unguided)


def restore_image(conditioning: Conditioning, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """Replaces the latents of a TI2V input image by the encoded image; returns other latents as they are."""
    mask, image = conditioning.noise_mask_BCTHW, conditioning.image_BCTHW
    if mask is None or image is None:
        return latents_BCTHW
    return (1 - mask) * image + mask * latents_BCTHW


def _expert_inputs(
    model: LoadedModel, conditioning: Conditioning, latents_BCTHW: torch.Tensor, timestep: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the transformer's input and its timesteps: one for all tokens, or for TI2V one for each token."""
    dtype = model.dtype
    if not model.text.config.expand_timesteps:
        inputs = latents_BCTHW
        if conditioning.image_BCTHW is not None:
            inputs = torch.cat([latents_BCTHW, conditioning.image_BCTHW], dim=1)
        return inputs.to(dtype), timestep.expand(latents_BCTHW.shape[0])
    if conditioning.noise_mask_BCTHW is None:
        mask_THW = torch.ones(latents_BCTHW.shape[2:], dtype=torch.float32, device=latents_BCTHW.device)
    else:
        mask_THW = conditioning.noise_mask_BCTHW[0][0]
    inputs = restore_image(conditioning, latents_BCTHW)
    per_token = (mask_THW[:, ::2, ::2] * timestep).flatten()
    return inputs.to(dtype), per_token.unsqueeze(0).expand(latents_BCTHW.shape[0], -1)


def _predict(
    expert: WanTransformer3DModel,
    context: str,
    inputs: torch.Tensor,
    timesteps: torch.Tensor,
    text_embeds_BLD: torch.Tensor,
) -> torch.Tensor:
    """Runs one forward pass and returns the velocity, shaped like the latents."""
    with expert.cache_context(context):
        velocity: torch.Tensor = expert(
            hidden_states=inputs, timestep=timesteps, encoder_hidden_states=text_embeds_BLD, return_dict=False
        )[0]
    return velocity
