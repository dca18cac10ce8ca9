"""Previews while a video is denoised: latents → small moving pictures, by one matrix from channels to colours."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
import yaml
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from PIL import Image

import configs
from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.files import atomic_path
from wan22_bridge.sizing import TEMPORAL_STRIDE

FACTORS_FILE = "preview.json"
"""In a model's folder: factors that were fitted to its own VAE."""

_PUBLISHED = {16: "wan-2.1", 48: "wan-2.2"}
"""By the number of latent channels."""
_QUALITY = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewFactors:
    """Colours in -1..1 are `bias` plus the channels, in the transformer's scale, times `channels`."""

    channels: list[list[float]]
    """[z][3]"""
    bias: list[float]
    """[3]"""


def find_factors(folder: Path, z_dim: int) -> PreviewFactors | None:
    """The factors of the model in a folder: its own, or the published ones of its VAE; None where there are none.

    Raises:
        ModelCorrupted: its own can't be read, or are for another number of channels.
    """
    own = folder / FACTORS_FILE
    if not own.is_file():
        published = yaml.safe_load(configs.previews_file().read_text("utf-8"))["factors"]
        return PreviewFactors(**published[_PUBLISHED[z_dim]]) if z_dim in _PUBLISHED else None
    try:
        factors = PreviewFactors(**json.loads(own.read_text("utf-8")))
        if np.shape(factors.channels) != (z_dim, 3) or np.shape(factors.bias) != (3,):
            raise ValueError(f"they are not for {z_dim} channels")
    except (OSError, ValueError, TypeError) as exc:
        raise ModelCorrupted(
            f"The model's {FACTORS_FILE} can't be used: {str(exc)[:200]}.",
            suggestions=["Remove it, or run wan22 fit-preview again."],
        ) from exc
    return factors


def write_factors(folder: Path, factors: PreviewFactors) -> Path:
    """Keeps factors in a model's folder."""
    path = folder / FACTORS_FILE
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(factors)), "utf-8")
    return path


def render_preview(latents_BCTHW: torch.Tensor, factors: PreviewFactors, *, fps: int) -> bytes:
    """One picture for each latent frame, a pixel for each latent, as an animated WebP that lasts as long as the video.

    Args:
        latents_BCTHW: of one video, in the transformer's scale, on any device.
        factors: of its VAE.
        fps: the video's.
    """
    z_CTHW = latents_BCTHW[0].cpu().float()
    channels = torch.tensor(factors.channels)
    rgb_TYX3 = torch.tensordot(z_CTHW, channels, dims=([0], [0])) + torch.tensor(factors.bias)
    pixels: NDArray[np.uint8] = ((rgb_TYX3 + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy()
    first, *others = (Image.fromarray(frame) for frame in pixels)
    content = io.BytesIO()
    first.save(
        content,
        "WEBP",
        save_all=True,
        append_images=others,
        duration=round(1000 * TEMPORAL_STRIDE / fps),
        loop=0,
        quality=_QUALITY,
        method=0,
    )
    return content.getvalue()


def draw_pictures(count: int = 24, *, side: int = 96, seed: int = 0) -> torch.Tensor:
    """Soft random pictures [count, 3, side, side] in -1..1."""
    generator = torch.Generator().manual_seed(seed)
    coarse_BCHW = torch.rand(count, 3, 4, 4, generator=generator) * 2 - 1
    return functional.interpolate(coarse_BCHW, (side, side), mode="bicubic").clamp(-1, 1)


@torch.no_grad()
def fit_factors(vae: AutoencoderKLWan, pictures_BCHW: torch.Tensor) -> PreviewFactors:
    """Fits factors to a VAE by least squares: it encodes pictures, whose colours are known.

    Args:
        vae: on the CPU, in fp32; with `use_fast_kernels` this takes a second and not twenty.
        pictures_BCHW: in -1..1, such as the model makes.
    """
    latents, colours = [], []
    for picture_BCHW in torch.split(pictures_BCHW, 1):
        clip_BCTHW = picture_BCHW.unsqueeze(2).expand(-1, -1, 1 + TEMPORAL_STRIDE, -1, -1)
        z_BCTHW = _normalise(vae, vae.encode(clip_BCTHW).latent_dist.mode())
        small_BCHW = functional.adaptive_avg_pool2d(picture_BCHW, (z_BCTHW.shape[3], z_BCTHW.shape[4]))
        latents.append(z_BCTHW[0].flatten(1).T)
        colours.append(small_BCHW[0].unsqueeze(1).expand(-1, z_BCTHW.shape[2], -1, -1).flatten(1).T)
    z = torch.cat(latents)
    with_bias = torch.cat([z, torch.ones(len(z), 1)], dim=1).double()
    solution = torch.linalg.lstsq(with_bias, torch.cat(colours).double()).solution
    rounded = [[round(value, 5) for value in row] for row in solution.tolist()]
    return PreviewFactors(channels=rounded[:-1], bias=rounded[-1])


def _normalise(vae: AutoencoderKLWan, z_BCTHW: torch.Tensor) -> torch.Tensor:
    """To the transformer's unit scale."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean, std = (torch.tensor(values).view(shape) for values in (vae.config.latents_mean, vae.config.latents_std))
    return (z_BCTHW - mean) / std
