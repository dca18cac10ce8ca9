"""Loads trained parts of the tiny models, and writes newly trained ones."""

import random
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from transformers import UMT5EncoderModel

from wan22_bridge.builtin.family import VAE_OF, WEIGHTS
from wan22_bridge.models.kernels import use_fast_kernels
from wan22_bridge.models.sidecars import write_factors, write_ratios
from wan22_bridge.tiny_training.calibration import calibrate_tiny_model
from wan22_bridge.tiny_training.latents import draw_clip
from wan22_bridge.tiny_training.networks import BOUNDARY_RATIO, new_scheduler, new_tokenizer
from wan22_bridge.tiny_training.scenes import draw_scene
from wan22_bridge.tuning.preview_factors import fit_factors

_FLOW_SHIFT = {"t2v": 3.0, "i2v": 3.0, "ti2v": 5.0}
"""Flow shift in the scheduler's config of each real repository."""
_PICTURES = 24
"""Number of pictures to which the colors of previews are fitted."""


def load_vae(version: str, weights: Path = WEIGHTS) -> AutoencoderKLWan:
    """Loads the VAE of version "2.1" or "2.2" in fp32."""
    return AutoencoderKLWan.from_pretrained(weights / f"vae-{version}", torch_dtype=torch.float32).eval()


def load_text_encoder(weights: Path = WEIGHTS) -> UMT5EncoderModel:
    """Loads the text encoder of all three models in fp32."""
    return UMT5EncoderModel.from_pretrained(weights / "text_encoder", torch_dtype=torch.float32).eval()


def load_transformer(member: str, name: str, weights: Path = WEIGHTS) -> WanTransformer3DModel:
    """Loads an expert of a member, `transformer` or `transformer_2`, in fp32."""
    return WanTransformer3DModel.from_pretrained(weights / member / name, torch_dtype=torch.float32).eval()


def write_member(member: str, experts: dict[str, WanTransformer3DModel], out: Path, weights: Path) -> Path:
    """Writes a member's own files: its experts in fp16, the pipeline's configs, and measured values.

    The measured values are MagCache's ratios and the preview factors.

    Args:
        member: t2v, i2v or ti2v.
        experts: Experts by name: transformer and, for two experts, transformer_2.
        out: Folder in which the member's folder is created.
        weights: Folder of the VAE and the text encoder that the experts were trained with.

    Returns:
        The member's folder.
    """
    two_experts = "transformer_2" in experts
    vae = load_vae(VAE_OF[member], weights)
    pipeline = WanPipeline(
        tokenizer=new_tokenizer(),
        text_encoder=load_text_encoder(weights),
        vae=vae,
        transformer=experts["transformer"].half(),
        transformer_2=experts["transformer_2"].half() if two_experts else None,
        scheduler=new_scheduler(_FLOW_SHIFT[member]),
        boundary_ratio=BOUNDARY_RATIO[member],
        expand_timesteps=member == "ti2v",
    )
    folder = out / member
    with tempfile.TemporaryDirectory(prefix="wan22-member-") as name:
        complete = Path(name)
        pipeline.save_pretrained(complete)
        for part in ("scheduler", *experts):
            shutil.copytree(complete / part, folder / part, dirs_exist_ok=True)
        shutil.copy(complete / "model_index.json", folder)
        write_ratios(folder, calibrate_tiny_model(member, complete))
    use_fast_kernels(vae)
    write_factors(folder, fit_factors(vae, draw_first_frames(_PICTURES)))
    return folder


def draw_first_frames(count: int, seed: int = 0) -> torch.Tensor:
    """Renders the first frames of random scenes, [count, 3, height, width] in -1..1."""
    chance = random.Random(seed)
    return torch.cat([draw_clip(draw_scene(chance))[:, :, 0] for _ in range(count)])
