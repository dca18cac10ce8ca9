"""What of the tiny family has been trained, as it lies beside this module: diffusers' folders, in fp16."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan

VAE = Path(__file__).parent / "weights" / "vae-2.1"
"""The VAE in the geometry of Wan2.1's, which T2V and I2V share."""

_CHANNELS = 12


def load_vae() -> AutoencoderKLWan:
    """The trained VAE, in fp32."""
    return AutoencoderKLWan.from_pretrained(VAE, torch_dtype=torch.float32).eval()


def save_vae(vae: AutoencoderKLWan, folder: Path) -> None:
    """Writes a VAE as it is kept here."""
    vae.half().save_pretrained(folder)


def new_vae(seed: int) -> AutoencoderKLWan:
    """The VAE with random weights, to be trained."""
    torch.manual_seed(seed)
    return AutoencoderKLWan(
        base_dim=16,
        decoder_base_dim=16,
        z_dim=_CHANNELS,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        scale_factor_temporal=4,
        scale_factor_spatial=8,
        latents_mean=[0.0] * _CHANNELS,
        latents_std=[1.0] * _CHANNELS,
    )
