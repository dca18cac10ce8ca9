"""Training of the tiny VAEs, and the quality of the trained ones."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from wan22_bridge.models.kernels import use_fast_kernels
from wan22_bridge.tiny_training.detectors import see_things
from wan22_bridge.tiny_training.networks import new_vae
from wan22_bridge.tiny_training.scenes import draw_scene
from wan22_bridge.tiny_training.trained import load_vae
from wan22_bridge.tiny_training.vae_training import RECIPES, Phase, scale_recipe, train_vae
from wan22_bridge.tiny_training.world import render

pytestmark = pytest.mark.slow

SHORT = (
    Phase(steps=2, num_frames=1, side=32, batch=2, seconds_per_step=0.1),
    Phase(steps=2, num_frames=5, side=32, batch=1, seconds_per_step=0.1),
)


def train(seed: int, log: Path) -> AutoencoderKLWan:
    torch.manual_seed(seed)
    return train_vae(new_vae("2.1"), SHORT, seed=seed, log=log)


def test_equal_recipes_and_seeds_give_equal_vaes(tmp_path: Path) -> None:
    first, again, other = (train(seed, tmp_path / f"{index}.jsonl") for index, seed in enumerate((0, 0, 1)))

    weights = [vae.state_dict() for vae in (first, again, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not all(torch.equal(value, weights[2][name]) for name, value in weights[0].items())
    [last] = [json.loads(line) for line in (tmp_path / "0.jsonl").read_text().splitlines()]
    assert (last["step"], last["of"], last["num_frames"]) == (4, 4, 5)


def test_the_config_holds_the_statistics_of_the_latents(tmp_path: Path) -> None:
    vae = train(0, tmp_path / "log.jsonl")
    vae.half().save_pretrained(tmp_path / "vae")

    read = AutoencoderKLWan.from_pretrained(tmp_path / "vae", torch_dtype=torch.float32)

    assert len(set(read.config.latents_std)) == read.config.z_dim
    assert all(deviation > 0 for deviation in read.config.latents_std)


def test_scaling_a_recipe_scales_its_steps() -> None:
    recipe = RECIPES["2.1"]
    assert scale_recipe(recipe, 1.0) == recipe
    assert [phase.steps for phase in scale_recipe(recipe, 0.1)] == [round(phase.steps / 10) for phase in recipe]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("version", "shape"), [("2.1", (1, 12, 5, 12, 12)), ("2.2", (1, 24, 5, 6, 6))])
@torch.no_grad()
def test_a_trained_vae_reconstructs_a_scene_outside_its_training(
    version: str, shape: tuple[int, ...], seed: int
) -> None:
    vae = load_vae(version)
    use_fast_kernels(vae)
    scene = draw_scene(random.Random(2_000_000 + seed), things=1)
    clip_THWC = render(scene, num_frames=17, width=96, height=96)
    clip_BCTHW = torch.from_numpy(clip_THWC).permute(3, 0, 1, 2).unsqueeze(0) * 2 - 1

    latents_BCTHW = vae.encode(clip_BCTHW).latent_dist.mode()
    decoded_BCTHW = vae.decode(latents_BCTHW).sample.clamp(-1, 1)

    assert latents_BCTHW.shape == shape
    assert 10 * torch.log10(4 / (decoded_BCTHW - clip_BCTHW).square().mean()) > 26
    pixels_THWC = ((decoded_BCTHW[0].permute(1, 2, 3, 0) + 1) * 127.5).round().numpy().astype(np.uint8)
    [sight] = see_things(pixels_THWC)
    assert (sight.color, sight.shape, sight.motion) == (
        scene.things[0].color,
        scene.things[0].shape,
        scene.things[0].motion,
    )
