"""Previews while a video is denoised: latents → small moving pictures, by one matrix from channels to colours."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wan22_bridge.models.sidecars import PreviewFactors
from wan22_bridge.sizing import TEMPORAL_STRIDE

_QUALITY = 60


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
