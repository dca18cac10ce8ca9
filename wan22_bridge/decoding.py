"""Latents → frames, one latent frame at a time, so that frames are encoded while later ones decode."""

from collections.abc import Generator

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from wan22_bridge.errors import GenerationFailed
from wan22_bridge.types import Frames


@torch.no_grad()
def decode_frames(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor) -> Generator[Frames, None, None]:
    """Decodes one video, yielding 1 frame for the first latent frame and 4 for each later one.

    Follows `AutoencoderKLWan._decode` of diffusers 0.42.1, whose causal convolutions carry their state in a feature
    cache from one latent frame to the next; that cache is cleared however the iteration ends.

    Raises:
        GenerationFailed: what came out is not finite.
    """
    z_BCTHW = _denormalise(vae, latents_BCTHW.to(vae.device, vae.dtype))
    vae.clear_cache()
    try:
        z_BCTHW = vae.post_quant_conv(z_BCTHW)
        for index in range(z_BCTHW.shape[2]):
            vae._conv_idx = [0]
            video_BCTHW = vae.decoder(
                z_BCTHW[:, :, index : index + 1],
                feat_cache=vae._feat_map,
                feat_idx=vae._conv_idx,
                **({"first_chunk": True} if index == 0 else {}),
            )
            if vae.config.patch_size is not None:
                video_BCTHW = unpatchify(video_BCTHW, patch_size=vae.config.patch_size)
            if not bool(torch.isfinite(video_BCTHW).all()):
                raise GenerationFailed(
                    f"The VAE decoded latent frame {index + 1} to NaN or infinity.",
                    code="non_finite_frames",
                    suggestions=["Decode in fp32."],
                )
            yield _to_frames(video_BCTHW.clamp(-1.0, 1.0))
    finally:
        vae.clear_cache()


def _denormalise(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """From the transformer's unit scale back to the VAE's own."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents_BCTHW)
    inverse_std = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latents_BCTHW)
    return latents_BCTHW / inverse_std + mean


def _to_frames(video_BCTHW: torch.Tensor) -> Frames:
    unit_THWC = (video_BCTHW[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).cpu().float().numpy()
    return np.asarray((unit_THWC * 255).round(), dtype=np.uint8)
