"""Training of the tiny VAEs, on single frames first, then on longer and larger clips."""

import json
import math
import random
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from wan22_bridge.models.kernels import use_trainable_kernels
from wan22_bridge.tiny_training.optimizing import TinyOptimizer
from wan22_bridge.tiny_training.scenes import draw_scene
from wan22_bridge.tiny_training.world import render

_WARM_UP_STEPS = 100
_LATENT_NOISE = 0.04
"""Noise on the latents, as a share of each channel's standard deviation.

With an absolute amount, the latents would collapse or explode.
"""
_LATENT_PENALTY = 1e-5
_AVERAGE = 0.995
"""Maximum decay of the weights' moving average."""
_LOG_EVERY = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """Phase of the training with clips of one shape."""

    steps: int
    num_frames: int
    side: int
    """Width and height in pixels."""
    batch: int
    """Clips per batch."""
    seconds_per_step: float
    """Approximate duration of a step on two cores."""


RECIPES = {
    "2.1": (
        Phase(steps=500, num_frames=1, side=64, batch=12, seconds_per_step=0.3),
        Phase(steps=350, num_frames=5, side=64, batch=6, seconds_per_step=0.8),
        Phase(steps=300, num_frames=9, side=64, batch=5, seconds_per_step=1.0),
        Phase(steps=200, num_frames=17, side=96, batch=2, seconds_per_step=1.4),
    ),
    "2.2": (
        Phase(steps=600, num_frames=1, side=96, batch=12, seconds_per_step=0.25),
        Phase(steps=350, num_frames=5, side=96, batch=6, seconds_per_step=0.5),
        Phase(steps=300, num_frames=9, side=96, batch=6, seconds_per_step=0.8),
        Phase(steps=350, num_frames=17, side=96, batch=4, seconds_per_step=1.0),
    ),
}
"""Phases of each VAE version, from random weights."""
POLISH = {
    "2.1": (Phase(steps=400, num_frames=17, side=96, batch=2, seconds_per_step=1.4),),
    "2.2": (Phase(steps=450, num_frames=17, side=96, batch=4, seconds_per_step=1.0),),
}
"""Final phases at `POLISH_RATE`. A higher learning rate would undo the earlier training."""
POLISH_RATE = 0.25
"""Share of the highest learning rates in the final phases."""


def scale_recipe(recipe: tuple[Phase, ...], share: float) -> tuple[Phase, ...]:
    """Returns a recipe with a share of its steps, at least one in each phase."""
    return tuple(replace(phase, steps=max(1, round(phase.steps * share))) for phase in recipe)


def recipe_minutes(*recipes: tuple[Phase, ...]) -> float:
    """Returns the approximate duration of recipes on two cores."""
    return sum(phase.steps * phase.seconds_per_step for recipe in recipes for phase in recipe) / 60


def train_vae(
    vae: AutoencoderKLWan, recipe: tuple[Phase, ...], *, seed: int, log: Path, rate: float = 1.0
) -> AutoencoderKLWan:
    """Trains a VAE on scenes of the tiny world. The result depends only on the VAE, the recipe, the seed and the rate.

    Args:
        vae: New or already trained VAE, which is changed.
        recipe: Phases, in order. The learning rate falls from the first phase with more than one frame.
        seed: Seed of the scenes and the noise.
        log: File to which a line of JSON is appended every 50 steps.
        rate: Share of the highest learning rates.

    Returns:
        A VAE with the moving average of the weights, and with the latents' statistics in its config.
    """
    torch.manual_seed(seed)
    chance = random.Random(seed)
    use_trainable_kernels(vae)
    vae.train()
    optimizer = TinyOptimizer(vae)
    averaged = {name: value.detach().clone() for name, value in vae.state_dict().items()}
    pictures = sum(phase.steps for phase in recipe if phase.num_frames == 1)
    total, done, began = sum(phase.steps for phase in recipe), 0, time.monotonic()
    psnrs: list[float] = []
    for phase in recipe:
        for _ in range(phase.steps):
            clips = draw_clips(chance, count=phase.batch, num_frames=phase.num_frames, side=phase.side)
            psnrs.append(_step(vae, clips))
            fade = _fade(max(0, done - pictures) / (total - pictures)) if total > pictures else 1.0
            optimizer.step(rate * min((done + 1) / _WARM_UP_STEPS, fade))
            done += 1
            keep = min(_AVERAGE, done / (done + 10))
            for name, value in vae.state_dict().items():
                averaged[name].lerp_(value, 1 - keep)
            if done % _LOG_EVERY == 0 or done == total:
                record = {
                    "step": done,
                    "of": total,
                    "seconds": round(time.monotonic() - began, 1),
                    "num_frames": phase.num_frames,
                    "psnr_db": round(sum(psnrs) / len(psnrs), 2),
                }
                with log.open("a") as lines:
                    print(json.dumps(record), file=lines)
                psnrs = []
    vae.load_state_dict(averaged)
    return measure_latents(vae.eval(), seed)


def _fade(progress: float) -> float:
    """Returns the share of the learning rate at `progress` in 0..1: half a cosine from 1 to 0.01."""
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * progress))


def draw_clips(chance: random.Random, *, count: int, num_frames: int, side: int) -> torch.Tensor:
    """Renders random clips [count, 3, num_frames, side, side] in -1..1. Single frames come from random moments."""
    clips = []
    for _ in range(count):
        if num_frames == 1:
            moment = chance.randrange(5)
            clips.append(render(draw_scene(chance), num_frames=5, width=side, height=side)[moment : moment + 1])
        else:
            clips.append(render(draw_scene(chance), num_frames=num_frames, width=side, height=side))
    return torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3) * 2 - 1


def _step(vae: AutoencoderKLWan, clips_BCTHW: torch.Tensor) -> float:
    """Adds the gradient of one batch, and returns its peak signal-to-noise ratio in dB."""
    with torch.autocast("cpu", torch.bfloat16):
        z_BCTHW = vae.encode(clips_BCTHW).latent_dist.mode().float()
        spread = z_BCTHW.detach().std(dim=(0, 2, 3, 4), keepdim=True)
        noisy_BCTHW = z_BCTHW + _LATENT_NOISE * spread * torch.randn_like(z_BCTHW)
        decoded_BCTHW = vae.decode(noisy_BCTHW).sample.float()
    error = decoded_BCTHW - clips_BCTHW
    squares = error.square().mean(dim=(1, 2, 3, 4))
    loss = (squares + 1e-6).sqrt().mean() + error.abs().mean() + _LATENT_PENALTY * z_BCTHW.square().mean()
    loss.backward()
    return float(10 * torch.log10(4 / squares.detach()).mean())


@torch.no_grad()
def measure_latents(vae: AutoencoderKLWan, seed: int) -> AutoencoderKLWan:
    """Returns a copy of a VAE with the mean and the standard deviation of each latent channel in its config."""
    chance = random.Random(seed + 1)
    latents = [vae.encode(draw_clips(chance, count=4, num_frames=17, side=96)).latent_dist.mode() for _ in range(6)]
    z_BCTHW = torch.cat(latents)
    mean, std = (getattr(z_BCTHW, name)(dim=(0, 2, 3, 4)) for name in ("mean", "std"))
    measured = AutoencoderKLWan.from_config(
        dict(deepcopy(vae.config)) | {"latents_mean": mean.tolist(), "latents_std": std.tolist()}
    )
    measured.load_state_dict(vae.state_dict())
    return measured.eval()
