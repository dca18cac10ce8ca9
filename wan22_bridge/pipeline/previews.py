"""Previews of the video while it denoises: small animations, computed from latents by one linear map to colors."""

import io
import logging
import math
import time

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wan22_bridge.models.sidecars import PreviewFactors
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.sizing import TEMPORAL_STRIDE
from wan22_bridge.types import Preview

logger = logging.getLogger(__name__)

_QUALITY = 60


class PreviewWriter:
    """Writes previews of one denoising run at the interval that the caller asked for."""

    def __init__(self, preview: Preview | None, factors: PreviewFactors | None, *, fps: float) -> None:
        """Writes nothing without `preview`, or without `factors` for the model's VAE."""
        self._preview = preview
        self._factors = factors
        self._fps = fps
        self._written_at = -math.inf

    def after_step(self, run: Denoising) -> None:
        """Writes a preview if the interval has passed. A failure is logged, because the run needs no preview."""
        if self._preview is None or self._factors is None:
            return
        if time.monotonic() - self._written_at < self._preview.interval_seconds:
            return
        temporary = self._preview.path.with_suffix(".part")
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(render_preview(run.estimate(), self._factors, fps=self._fps))
            temporary.replace(self._preview.path)
        except OSError as exc:
            logger.warning("Cannot write the preview: %s", exc, extra={"action": "preview_failed"})
            temporary.unlink(missing_ok=True)
        else:
            self._preview.shown()
        self._written_at = time.monotonic()


def render_preview(latents_BCTHW: torch.Tensor, factors: PreviewFactors, *, fps: float) -> bytes:
    """Renders an animated WebP with one picture for each latent frame and one pixel for each latent.

    The animation lasts as long as the video.

    Args:
        latents_BCTHW: latents of one video, in the transformer's unit scale, on any device.
        factors: the linear map for the model's VAE.
        fps: frames per second of the video.
    """
    z_CTHW = latents_BCTHW[0].cpu().float()
    channels = torch.tensor(factors.channels)
    rgb_THW3 = torch.tensordot(z_CTHW, channels, dims=([0], [0])) + torch.tensor(factors.bias)
    pixels: NDArray[np.uint8] = ((rgb_THW3 + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy()
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
