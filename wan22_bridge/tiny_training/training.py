"""Training recipe of the tiny models: the order of the parts, and the steps of each."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

from wan22_bridge.builtin.family import FAMILY, VAE_OF, WEIGHTS
from wan22_bridge.tiny_training.flow_training import Course, TextReader, train_flow
from wan22_bridge.tiny_training.latents import LatentPool
from wan22_bridge.tiny_training.lora_training import train_lightning, train_neon
from wan22_bridge.tiny_training.networks import (
    BOUNDARY_RATIO,
    new_text_encoder,
    new_tokenizer,
    new_transformer,
    new_vae,
)
from wan22_bridge.tiny_training.trained import load_text_encoder, load_transformer, load_vae, write_member
from wan22_bridge.tiny_training.vae_training import (
    POLISH,
    POLISH_RATE,
    RECIPES,
    recipe_minutes,
    scale_recipe,
    train_vae,
)

_FIRST_SCENES = 256
"""Number of scenes in the pool of the first batch."""
_EXPERT_RATE = 0.3
"""Share of the highest learning rates for training an expert after the training on all noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Flow:
    """Training steps of a transformer."""

    steps: int
    """Steps on all noise."""
    expert_steps: int
    """Further steps of each expert on its own noise range."""
    seconds_per_step: float
    """Approximate duration of a step on two cores."""

    @property
    def minutes(self) -> float:
        """Approximate duration of all steps on two cores."""
        return (self.steps + 2 * self.expert_steps) * self.seconds_per_step / 60

    def scale(self, share: float) -> "_Flow":
        """Returns a copy with a share of the steps, at least one of each kind."""
        return _Flow(
            steps=max(1, round(self.steps * share)),
            expert_steps=max(1, round(self.expert_steps * share)) if self.expert_steps else 0,
            seconds_per_step=self.seconds_per_step,
        )


FLOWS = {
    "text": _Flow(steps=1300, expert_steps=0, seconds_per_step=0.35),
    "t2v": _Flow(steps=2800, expert_steps=1200, seconds_per_step=0.7),
    "i2v": _Flow(steps=1500, expert_steps=500, seconds_per_step=0.9),
    "ti2v": _Flow(steps=8000, expert_steps=0, seconds_per_step=0.35),
    "neon": _Flow(steps=0, expert_steps=750, seconds_per_step=0.7),
    "lightning": _Flow(steps=0, expert_steps=400, seconds_per_step=1.5),
}


def train_part(
    part: str, out: Path, *, minutes: float | None = None, seed: int = 0, weights: Path | None = None
) -> list[Path]:
    """Trains one part of the tiny models from scratch. The result depends only on the arguments.

    Args:
        part: vae, text, t2v, i2v, ti2v, neon or lightning.
        out: Folder for the weights and `log.jsonl`.
        minutes: Approximate duration on two cores; None for all steps of the recipe.
        seed: Seed of the initial weights, the scenes and the noise.
        weights: Folder of the trained parts that this part needs: the VAE and the text encoder, for I2V also T2V's
            transformers, for the LoRAs all transformers. By default the built-in weights.

    Returns:
        The folders or files of the trained weights.

    Raises:
        OSError: A part that this part needs is missing, or `out` can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    if part == "vae":
        full_minutes = sum(recipe_minutes(RECIPES[version], POLISH[version]) for version in RECIPES)
        return [
            _train_vae(version, 1.0 if minutes is None else minutes / full_minutes, seed, out) for version in RECIPES
        ]
    flow = FLOWS[part] if minutes is None else FLOWS[part].scale(minutes / FLOWS[part].minutes)
    weights = weights or WEIGHTS
    if part == "neon":
        return train_neon(out, steps=flow.expert_steps, seed=seed, weights=weights)
    if part == "lightning":
        steps = flow.expert_steps
        made = [train_lightning(member, out, steps=steps, seed=seed, weights=weights) for member in FAMILY]
        return [file for files in made for file in files]
    return _train_transformers(part, flow, seed, out, weights)


def _train_vae(version: str, share: float, seed: int, out: Path) -> Path:
    vae, log = new_vae(version), out / "log.jsonl"
    vae = train_vae(vae, scale_recipe(RECIPES[version], share), seed=seed, log=log)
    vae = train_vae(vae, scale_recipe(POLISH[version], share), seed=seed + 1, log=log, rate=POLISH_RATE)
    folder = out / f"vae-{version}"
    vae.half().save_pretrained(folder)
    return folder


def _train_transformers(part: str, flow: _Flow, seed: int, out: Path, weights: Path) -> list[Path]:
    log = out / "log.jsonl"
    # The text encoder is trained together with TI2V, because TI2V learns fastest.
    member = "ti2v" if part == "text" else part
    tokenizer = new_tokenizer()
    encoder = new_text_encoder(len(tokenizer)) if part == "text" else load_text_encoder(weights).requires_grad_(False)
    pool = LatentPool(member, load_vae(VAE_OF[member], weights), seed, first=min(flow.steps, _FIRST_SCENES))
    transformer = widen(load_transformer("t2v", "transformer_2", weights)) if part == "i2v" else new_transformer(member)
    text = TextReader(tokenizer, encoder)
    all_noise = Course(steps=flow.steps, timestep_per_token=member == "ti2v")
    train_flow(transformer, text, pool, all_noise, seed=seed, log=log)
    if part == "text":
        encoder.half().save_pretrained(out / "text_encoder")
        tokenizer.save_pretrained(out / "tokenizer")
        return [out / "text_encoder", out / "tokenizer"]
    boundary = BOUNDARY_RATIO[member]
    experts = {"transformer": transformer}
    if boundary is not None:
        ranges = {"transformer": (boundary, 1.0), "transformer_2": (0.0, boundary)}
        for name, (lowest, highest) in ranges.items():
            experts[name] = copy.deepcopy(transformer)
            course = Course(steps=flow.expert_steps, lowest=lowest, highest=highest, rate=_EXPERT_RATE)
            train_flow(experts[name], text, pool, course, seed=seed + 1, log=log)
    return [write_member(member, experts, out, weights)]


def widen(transformer: WanTransformer3DModel) -> WanTransformer3DModel:
    """Returns T2V's transformer with I2V's input channels. The new channels have zero weights, and so no effect yet."""
    wide = new_transformer("i2v")
    state = transformer.state_dict()
    patches = torch.zeros_like(wide.patch_embedding.weight)
    patches[:, : transformer.config.in_channels] = transformer.patch_embedding.weight.detach()
    wide.load_state_dict(state | {"patch_embedding.weight": patches})
    return wide
