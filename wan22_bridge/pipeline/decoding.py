"""Latents → frames, one latent frame at a time, so that frames are encoded while later ones decode."""

from collections.abc import Generator

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from wan22_bridge.errors import GenerationFailed
from wan22_bridge.models.latent_scale import to_vae_scale
from wan22_bridge.plans import TILE_STRIDE
from wan22_bridge.types import Frames


@torch.no_grad()
def decode_frames(
    vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor, tile: int | None = None
) -> Generator[Frames, None, None]:
    """Decodes one video part by part.

    Untiled, a part is one latent frame: 1 frame for the first and 4 for each later one. In tiles, a part is one latent
    frame of one tile, and empty: all frames come with the last part.

    Follows `AutoencoderKLWan._decode` and `tiled_decode` of diffusers 0.42.1, whose causal convolutions carry their
    state in a feature cache from one latent frame to the next; that cache is cleared however the iteration ends.
    Decoded tiles wait and are blended on the CPU.

    Args:
        vae: on the device.
        latents_BCTHW: of one video, in the transformer's scale.
        tile: the side of a tile in pixels; None for whole frames.

    Raises:
        GenerationFailed: what came out is not finite.
    """
    z_BCTHW = to_vae_scale(vae, latents_BCTHW.to(vae.device, vae.dtype))
    if tile is None or not _tiles(vae, latents_BCTHW, tile):
        for video_BCTHW in _decode(vae, z_BCTHW):
            yield _to_frames(vae, video_BCTHW)
        return
    rows: list[list[torch.Tensor]] = []
    height, width = latents_BCTHW.shape[3:]
    side, stride = _tile_sides(vae, tile)
    empty = np.zeros((0, 0, 0, 3), dtype=np.uint8)
    for top in range(0, height, stride):
        rows.append([])
        for left in range(0, width, stride):
            parts = []
            for part_BCTHW in _decode(vae, z_BCTHW[..., top : top + side, left : left + side]):
                parts.append(part_BCTHW.cpu())
                if not _is_last(top, left, len(parts), stride, latents_BCTHW):
                    yield empty
            rows[-1].append(torch.cat(parts, dim=2))
    yield _to_frames(vae, _blend(vae, rows, tile)[..., : height * _scale(vae), : width * _scale(vae)])


def count_parts(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor, tile: int | None) -> int:
    """How many parts `decode_frames` yields."""
    tiles = _tiles(vae, latents_BCTHW, tile) if tile is not None else 0
    return int(latents_BCTHW.shape[2]) * max(1, tiles)


def _decode(vae: AutoencoderKLWan, z_BCTHW: torch.Tensor) -> Generator[torch.Tensor, None, None]:
    """Decodes latent frame by latent frame, with the VAE's patches still in the channels."""
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
            if not bool(torch.isfinite(video_BCTHW).all()):
                raise GenerationFailed(
                    f"The VAE decoded latent frame {index + 1} to NaN or infinity.",
                    code="non_finite_frames",
                    suggestions=["Decode in fp32."],
                )
            yield video_BCTHW
    finally:
        vae.clear_cache()


def _tile_sides(vae: AutoencoderKLWan, tile: int) -> tuple[int, int]:
    """The side and the stride of a tile, in latents."""
    scale = vae.config.scale_factor_spatial
    return tile // scale, int(tile * TILE_STRIDE) // scale


def _tiles(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor, tile: int) -> int:
    """How many tiles a frame has; 0 where it is no larger than one."""
    side, stride = _tile_sides(vae, tile)
    height, width = latents_BCTHW.shape[3:]
    return 0 if max(height, width) <= side else -(-height // stride) * -(-width // stride)


def _is_last(top: int, left: int, parts: int, stride: int, latents_BCTHW: torch.Tensor) -> bool:
    frames, height, width = latents_BCTHW.shape[2:]
    return top + stride >= height and left + stride >= width and parts == frames


def _scale(vae: AutoencoderKLWan) -> int:
    """Decoded pixels, still in patches, for each latent."""
    return int(vae.config.scale_factor_spatial) // int(vae.config.patch_size or 1)


def _blend(vae: AutoencoderKLWan, rows: list[list[torch.Tensor]], tile: int) -> torch.Tensor:
    """Joins tiles, fading each over its neighbours above and to the left."""
    patch = int(vae.config.patch_size or 1)
    stride = int(tile * TILE_STRIDE) // patch
    overlap = tile // patch - stride
    joined = []
    for index, row in enumerate(rows):
        parts = []
        for column, part in enumerate(row):
            if index > 0:
                part = vae.blend_v(rows[index - 1][column], part, overlap)
            if column > 0:
                part = vae.blend_h(row[column - 1], part, overlap)
            parts.append(part[..., :stride, :stride])
        joined.append(torch.cat(parts, dim=-1))
    return torch.cat(joined, dim=-2)


def _to_frames(vae: AutoencoderKLWan, video_BCTHW: torch.Tensor) -> Frames:
    if vae.config.patch_size is not None:
        video_BCTHW = unpatchify(video_BCTHW, patch_size=vae.config.patch_size)
    unit_THWC = (video_BCTHW.clamp(-1.0, 1.0)[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).cpu().float().numpy()
    return np.asarray((unit_THWC * 255).round(), dtype=np.uint8)
