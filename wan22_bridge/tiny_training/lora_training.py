"""Training of the tiny models' LoRAs: a style, and a distillation to four steps."""

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from wan22_bridge.builtin.family import VAE_OF
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.tiny_training.distilling import TeacherPool
from wan22_bridge.tiny_training.flow_training import BATCH, Course, Pool, TextReader, train_flow
from wan22_bridge.tiny_training.latents import LatentPool
from wan22_bridge.tiny_training.networks import BOUNDARY_RATIO, new_scheduler, new_tokenizer
from wan22_bridge.tiny_training.scenes import NEON
from wan22_bridge.tiny_training.trained import load_text_encoder, load_transformer, load_vae

RANK = 8
_NEON_RANKS = {"transformer": 8, "transformer_2": 16}
"""LoRA rank of each expert. The low-noise expert needs a higher one, because it draws the outlines."""
LIGHTNING_STEPS, LIGHTNING_SHIFT = 4, 5.0
"""Steps and flow shift for which the distillation is trained."""
_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
_RATE = 0.3
"""Share of the highest learning rates for the distillation."""
_NEON_RATE = 1.0
"""Share of the highest learning rates for the style."""
SCENES = 768
"""Number of training scenes."""
_ENDS = {"transformer": ".high_noise", "transformer_2": ".low_noise"}
_ARCHITECTURES = {"t2v": "wan2.2-t2v-tiny/lora", "i2v": "wan2.2-i2v-tiny/lora", "ti2v": "wan2.2-ti2v-tiny/lora"}


def train_neon(out: Path, *, steps: int, seed: int, weights: Path, scenes: int = SCENES) -> list[Path]:
    """Trains the style LoRA for T2V, with which only the outlines of things are drawn.

    Args:
        out: Folder for `loras/` and `log.jsonl`.
        steps: Training steps of each expert.
        seed: Seed of all random choices.
        weights: Folder of the trained VAE, text encoder and transformers.
        scenes: Number of training scenes.

    Returns:
        The LoRA files of the high-noise and the low-noise expert.
    """
    text, files = TextReader(new_tokenizer(), load_text_encoder(weights).requires_grad_(False)), []
    pool = LatentPool("t2v", load_vae(VAE_OF["t2v"], weights), seed, first=scenes, neon=True)
    boundary = BOUNDARY_RATIO["t2v"] or 0.0
    for name, (lowest, highest) in {"transformer": (boundary, 1.0), "transformer_2": (0.0, boundary)}.items():
        course = Course(steps=steps, lowest=lowest, highest=highest, rate=_NEON_RATE)
        metadata = {
            "modelspec.title": "Neon: outlines that glow",
            "modelspec.architecture": _ARCHITECTURES["t2v"],
            "modelspec.trigger_phrase": NEON,
        }
        expert, file = load_transformer("t2v", name, weights), out / "loras" / f"tiny-neon{_ENDS[name]}.safetensors"
        files.append(_train(expert, text, pool, course, seed, out / "log.jsonl", file, metadata, _NEON_RANKS[name]))
    return files


def train_lightning(
    member: str, out: Path, *, steps: int, seed: int, weights: Path, scenes: int = SCENES
) -> list[Path]:
    """Trains a LoRA that replaces a member's guidance and steps by `LIGHTNING_STEPS` unguided ones.

    Args:
        member: t2v, i2v or ti2v.
        out: Folder for `loras/` and `log.jsonl`.
        steps: Training steps of each expert.
        seed: Seed of all random choices.
        weights: Folder of the trained VAE, text encoder and transformers.
        scenes: Number of training scenes.

    Returns:
        The LoRA file of each expert.
    """
    spec, boundary = load_catalogue()[f"tiny-{member}"], BOUNDARY_RATIO[member]
    names = ["transformer"] if boundary is None else ["transformer", "transformer_2"]
    text = TextReader(new_tokenizer(), load_text_encoder(weights).requires_grad_(False))
    pool = LatentPool(member, load_vae(VAE_OF[member], weights), seed, first=scenes)
    teachers = [load_transformer(member, name, weights) for name in names]
    pairs = TeacherPool(teachers, text, pool, spec, seed=seed, batches=-(-scenes // BATCH))
    scheduler, files = new_scheduler(LIGHTNING_SHIFT), []
    scheduler.set_timesteps(LIGHTNING_STEPS)
    sigmas = [timestep / 1000 for timestep in scheduler.timesteps.tolist()]
    for name in names:
        is_high = name == "transformer"
        own = tuple(sigma for sigma in sigmas if boundary is None or (sigma >= boundary) == is_high)
        course = Course(steps=steps, sigmas=own, empty=0, rate=_RATE, timestep_per_token=member == "ti2v")
        metadata = {
            "modelspec.title": f"Lightning: {LIGHTNING_STEPS} steps, guidance scale 1, flow shift {LIGHTNING_SHIFT:g}",
            "modelspec.architecture": _ARCHITECTURES[member],
        }
        end = "" if boundary is None else _ENDS[name]
        file = out / "loras" / f"tiny-lightning-{member}{end}.safetensors"
        expert = load_transformer(member, name, weights)
        files.append(_train(expert, text, pairs, course, seed, out / "log.jsonl", file, metadata))
    return files


def _train(
    expert: WanTransformer3DModel,
    text: TextReader,
    pool: Pool,
    course: Course,
    seed: int,
    log: Path,
    file: Path,
    metadata: Mapping[str, str],
    rank: int = RANK,
) -> Path:
    """Trains a LoRA for an expert, and writes it in fp16 in diffusers' format. The expert stays unchanged."""
    torch.manual_seed(seed)
    expert.requires_grad_(False)
    expert.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=_LAYERS))
    train_flow(expert, text, pool, course, seed=seed, log=log)
    weights = {f"transformer.{name}": value.half() for name, value in get_peft_model_state_dict(expert).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file, {"format": "pt", **metadata})
    expert.unload_lora()
    return file
