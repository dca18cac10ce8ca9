"""Fitting of preview factors to a VAE."""

import torch
import torch.nn.functional as functional
from diffusers import AutoencoderKLWan

from wan22_bridge.models.latent_scale import to_unit_scale
from wan22_bridge.models.sidecars import PreviewFactors
from wan22_bridge.sizing import TEMPORAL_STRIDE


def draw_pictures(count: int = 24, *, side: int = 96, seed: int = 0) -> torch.Tensor:
    """Draws random pictures [count, 3, side, side] in -1..1 with smooth color gradients."""
    generator = torch.Generator().manual_seed(seed)
    coarse_BCHW = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    return functional.interpolate(coarse_BCHW, (side, side), mode="bicubic").clamp(-1, 1)


@torch.no_grad()
def fit_factors(vae: AutoencoderKLWan, pictures_BCHW: torch.Tensor) -> PreviewFactors:
    """Fits preview factors by least squares, from the latents and the colors of encoded pictures.

    Args:
        vae: the VAE, on the CPU in fp32. Fitting takes 1 second with `use_fast_kernels`, and 20 seconds without.
        pictures_BCHW: pictures in -1..1, similar to those that the model generates.
    """
    latents, colors = [], []
    for picture_BCHW in torch.split(pictures_BCHW, 1):
        clip_BCTHW = picture_BCHW.unsqueeze(2).expand(-1, -1, 1 + TEMPORAL_STRIDE, -1, -1)
        z_BCTHW = to_unit_scale(vae, vae.encode(clip_BCTHW).latent_dist.mode())
        small_BCHW = functional.adaptive_avg_pool2d(picture_BCHW, (z_BCTHW.shape[3], z_BCTHW.shape[4]))
        latents.append(z_BCTHW[0].flatten(1).T)
        colors.append(small_BCHW[0].unsqueeze(1).expand(-1, z_BCTHW.shape[2], -1, -1).flatten(1).T)
    z = torch.cat(latents)
    with_bias = torch.cat([z, torch.ones(len(z), 1)], dim=1).double()
    solution = torch.linalg.lstsq(with_bias, torch.cat(colors).double()).solution
    rounded = [[round(value, 5) for value in row] for row in solution.tolist()]
    return PreviewFactors(channels=rounded[:-1], bias=rounded[-1])
