"""Conversion of latents between the VAE's scale and the unit scale in which the transformer works."""

import torch
from diffusers import AutoencoderKLWan


def to_unit_scale(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """Converts encoded latents from the VAE's scale to the transformer's unit scale."""
    mean, inverse_std = _statistics(vae, latents_BCTHW)
    return (latents_BCTHW - mean) * inverse_std


def to_vae_scale(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """Converts latents from the transformer's unit scale back to the VAE's scale."""
    mean, inverse_std = _statistics(vae, latents_BCTHW)
    return latents_BCTHW / inverse_std + mean


def _statistics(vae: AutoencoderKLWan, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the mean and the inverse standard deviation of each channel, computed as in diffusers' pipelines."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(like)
    return mean, 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(like)
