"""Models of a middle size with random transformers: large enough to measure, small enough to create quickly."""

import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel

from wan22_bridge.builtin import ensure_tiny_model

HUNDRED_MILLION = {"num_attention_heads": 6, "attention_head_dim": 128, "ffn_dim": 3584, "num_layers": 9}
"""Config of a transformer with a hundred million parameters."""


def make_middle_model(
    member: str, folder: Path, transformer: dict[str, int], vae: dict[str, int] | None = None
) -> Path:
    """Writes a tiny model with larger random transformers, and optionally with another VAE.

    Args:
        member: t2v, i2v or ti2v.
        folder: the destination, in diffusers' format.
        transformer: config values that replace those of the tiny transformer.
        vae: config values that replace those of the tiny VAE.
    """
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="wan22-tiny-") as name:
        pipeline = WanPipeline.from_pretrained(ensure_tiny_model(Path(name), member))
    parts = dict(pipeline.components)
    for name in ("transformer", "transformer_2"):
        if parts[name] is not None:
            parts[name] = WanTransformer3DModel.from_config(dict(parts[name].config) | transformer)
    if vae is not None:
        parts["vae"] = AutoencoderKLWan.from_config(dict(pipeline.vae.config) | vae)
    options = {name: pipeline.config[name] for name in ("boundary_ratio", "expand_timesteps")}
    WanPipeline(**parts, **options).save_pretrained(folder)
    return folder
