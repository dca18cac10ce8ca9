"""Decoding of latents to frames, one latent frame at a time, so that frames are encoded while later frames decode.

The operations and their order are those of `AutoencoderKLWan._decode` and `tiled_decode` of diffusers 0.42.1.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from wan22_bridge.errors import GenerationFailed
from wan22_bridge.models.latent_scale import to_vae_scale
from wan22_bridge.plans import TILE_STRIDE
from wan22_bridge.types import Frames

_NO_FRAMES: Frames = np.zeros((0, 0, 0, 3), dtype=np.uint8)


@torch.no_grad()
def decode_frames(
    vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor, tile: int | None = None
) -> Generator[Frames, None, None]:
    """Decodes one video part by part.

    Untiled, a part is one latent frame: 1 frame for the first latent frame, 4 frames for each later one. Tiled, a part
    is one latent frame of one tile and has no frames, except the last part, which has all frames of the video.

    The VAE's causal convolutions keep their state between latent frames in a feature cache. The generator clears that
    cache however the iteration ends.

    Args:
        vae: the VAE, on the device.
        latents_BCTHW: latents of one video, in the transformer's unit scale.
        tile: side of a tile in pixels; None decodes whole frames.

    Raises:
        GenerationFailed: the VAE decoded to NaN or infinity.
    """
    z_BCTHW = to_vae_scale(vae, latents_BCTHW.to(vae.device, vae.dtype))
    tiling = _find_tiling(vae, latents_BCTHW, tile)
    if tiling is None:
        yield from _decode_whole(vae, z_BCTHW)
    else:
        yield from _decode_tiled(vae, z_BCTHW, tiling)


def count_parts(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor, tile: int | None) -> int:
    """Returns the number of parts that `decode_frames` yields."""
    tiling = _find_tiling(vae, latents_BCTHW, tile)
    return int(latents_BCTHW.shape[2]) * (1 if tiling is None else tiling.count)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tiling:
    """Division of a frame into overlapping tiles."""

    pixels: int
    """Side of a tile in pixels."""
    side: int
    """Side of a tile in latents."""
    tops: range
    """Latent row of each row of tiles."""
    lefts: range
    """Latent column of each column of tiles."""

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.tops) * len(self.lefts)


def _find_tiling(vae: AutoencoderKLWan, latents_BCTHW: torch.Tensor, tile: int | None) -> _Tiling | None:
    """Returns the tiling of a video's frames; None where a whole frame is decoded."""
    if tile is None:
        return None
    scale = vae.config.scale_factor_spatial
    side, stride = tile // scale, int(tile * TILE_STRIDE) // scale
    height, width = latents_BCTHW.shape[3:]
    if max(height, width) <= side:
        return None
    return _Tiling(pixels=tile, side=side, tops=range(0, height, stride), lefts=range(0, width, stride))


def _decode_whole(vae: AutoencoderKLWan, z_BCTHW: torch.Tensor) -> Generator[Frames, None, None]:
    for video_BCTHW in _decode(vae, z_BCTHW):
        yield _to_frames(vae, video_BCTHW)


def _decode_tiled(vae: AutoencoderKLWan, z_BCTHW: torch.Tensor, tiling: _Tiling) -> Generator[Frames, None, None]:
    """Decodes tile by tile. The decoded tiles are collected and blended on the CPU."""
    rows: list[list[torch.Tensor]] = []
    frames, height, width = z_BCTHW.shape[2:]
    parts_left = frames * tiling.count
    for top in tiling.tops:
        rows.append([])
        for left in tiling.lefts:
            tile_BCTHW = z_BCTHW[..., top : top + tiling.side, left : left + tiling.side]
            parts = []
            for part_BCTHW in _decode(vae, tile_BCTHW):
                parts.append(part_BCTHW.cpu())
                parts_left -= 1
                if parts_left:
                    yield _NO_FRAMES
            rows[-1].append(torch.cat(parts, dim=2))
    # Decoded pixels for each latent, still in the VAE's patches.
    scale = int(vae.config.scale_factor_spatial) // int(vae.config.patch_size or 1)
    yield _to_frames(vae, _blend(vae, rows, tiling.pixels)[..., : height * scale, : width * scale])


def _decode(vae: AutoencoderKLWan, z_BCTHW: torch.Tensor) -> Generator[torch.Tensor, None, None]:
    """Decodes one latent frame at a time, with the VAE's patches still in the channels."""
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


def _blend(vae: AutoencoderKLWan, rows: list[list[torch.Tensor]], tile: int) -> torch.Tensor:
    """Joins tiles of `tile` pixels; each fades in over the overlap with its neighbors above and to the left."""
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
    """Converts decoded values in -1..1 to RGB frames [T, H, W, 3]."""
    if vae.config.patch_size is not None:
        video_BCTHW = unpatchify(video_BCTHW, patch_size=vae.config.patch_size)
    unit_THWC = (video_BCTHW.clamp(-1.0, 1.0)[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).cpu().float().numpy()
    return np.asarray((unit_THWC * 255).round(), dtype=np.uint8)
