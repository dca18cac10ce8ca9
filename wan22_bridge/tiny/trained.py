"""What of the tiny family has been trained, as it lies beside this module: diffusers' folders, in fp16."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan

VAE = Path(__file__).parent / "weights" / "vae-2.1"
"""The VAE in the geometry of Wan2.1's, which T2V and I2V share."""


def load_vae() -> AutoencoderKLWan:
    """The trained VAE, in fp32."""
    return AutoencoderKLWan.from_pretrained(VAE, torch_dtype=torch.float32).eval()


def save_vae(vae: AutoencoderKLWan, folder: Path) -> None:
    """Writes a VAE as it is kept here."""
    vae.half().save_pretrained(folder)
