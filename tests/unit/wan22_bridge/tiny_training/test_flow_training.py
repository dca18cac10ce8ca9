"""Training of the tiny transformers: equal inputs to those of the pipelines, and reproducible results."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from safetensors.torch import load_file

from wan22_bridge.builtin import FAMILY, find_parts
from wan22_bridge.builtin.family import WEIGHTS
from wan22_bridge.tiny_training.flow_training import (
    TEXT_TOKENS,
    BiasedAttention,
    Course,
    TextReader,
    draw_sigmas,
    train_flow,
)
from wan22_bridge.tiny_training.latents import FRAMES, SIDE, LatentPool, draw_clip
from wan22_bridge.tiny_training.networks import new_scheduler, new_text_encoder, new_tokenizer, new_transformer
from wan22_bridge.tiny_training.scenes import describe, draw_scene, is_held_out, words
from wan22_bridge.tiny_training.trained import load_vae
from wan22_bridge.tiny_training.training import train_part, widen

pytestmark = pytest.mark.slow


@pytest.fixture
def text() -> TextReader:
    torch.manual_seed(0)
    tokenizer = new_tokenizer()
    return TextReader(tokenizer, new_text_encoder(len(tokenizer)).eval())


@torch.no_grad()
def test_attention_to_few_tokens_equals_attention_to_all_tokens(text: TextReader) -> None:
    prompts = ["a red circle moving right on a gray background", ""]
    transformer = new_transformer("t2v").eval()
    latents_BCTHW = torch.randn(2, 12, 2, 4, 4)
    inputs = {"hidden_states": latents_BCTHW, "timestep": torch.tensor([900.0, 300.0]), "return_dict": False}
    embeds_BLD, bias = text.read(prompts)
    full_BLD = torch.nn.functional.pad(embeds_BLD, (0, 0, 0, TEXT_TOKENS - embeds_BLD.shape[1]))
    expected_BCTHW = transformer(encoder_hidden_states=full_BLD, **inputs)[0]

    attention = BiasedAttention()
    attention.bias = bias
    for block in transformer.blocks:
        block.attn2.set_processor(attention)
    found_BCTHW = transformer(encoder_hidden_states=embeds_BLD, **inputs)[0]

    torch.testing.assert_close(found_BCTHW, expected_BCTHW, rtol=1e-4, atol=1e-5)
    attention.bias = None
    unweighted_BCTHW = transformer(encoder_hidden_states=embeds_BLD, **inputs)[0]
    assert (unweighted_BCTHW - expected_BCTHW).abs().max() > 1e-3


def test_each_word_of_a_prompt_is_one_token() -> None:
    tokenizer, chance = new_tokenizer(), random.Random(0)
    for _ in range(200):
        prompt = describe(draw_scene(chance), chance)
        pieces = prompt.replace(",", " ,").split()
        assert set(pieces) - {","} <= set(words())
        assert len(tokenizer(prompt).input_ids) <= len(pieces) + prompt.count(",") + 1 < 40


@pytest.mark.parametrize("last", [False, True])
@torch.no_grad()
def test_i2v_is_trained_on_the_condition_of_its_pipeline(last: bool) -> None:
    vae = load_vae("2.1")
    pool = LatentPool("i2v", vae, 0, first=1)
    clip_BCTHW = draw_clip(draw_scene(random.Random(1)))
    pipeline = WanImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=vae, scheduler=new_scheduler(3.0), transformer=new_transformer("i2v")
    )

    _, expected_BCTHW = pipeline.prepare_latents(
        clip_BCTHW[:, :, 0],
        1,
        12,
        SIDE,
        SIDE,
        FRAMES,
        torch.float32,
        torch.device("cpu"),
        torch.Generator().manual_seed(0),
        last_image=clip_BCTHW[:, :, -1] if last else None,
    )

    torch.testing.assert_close(pool._condition(clip_BCTHW, last), expected_BCTHW[0], rtol=1e-4, atol=1e-4)


def test_one_scene_in_ten_is_held_out_of_the_batches() -> None:
    chance = random.Random(3)
    held_out = sum(is_held_out(draw_scene(chance, things=1)) for _ in range(2000))
    assert 150 < held_out < 250
    pool = LatentPool("ti2v", load_vae("2.2"), 0, first=3)
    batch = pool.draw(8, empty=0.5)
    assert batch.latents_BCTHW.shape == (8, 24, 5, 6, 6)
    assert batch.prompts.count("") in range(1, 8)
    assert batch.images_BCTHW is None


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (0.875, 1.0), (0.0, 0.9)])
def test_noise_levels_stay_in_the_range_of_the_expert(lowest: float, highest: float) -> None:
    sigmas = draw_sigmas(4000, Course(steps=1, lowest=lowest, highest=highest), torch.Generator().manual_seed(0))
    assert lowest <= sigmas.min() < lowest + 0.15
    assert highest - 0.05 < sigmas.max() <= highest
    if (lowest, highest) == (0.0, 1.0):
        assert 0.72 < sigmas.median() < 0.78  # 3u / (1 + 2u) at u = 1/2


def train(folder: Path, seed: int, *, steps: int = 2) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    tokenizer = new_tokenizer()
    reader = TextReader(tokenizer, new_text_encoder(len(tokenizer)))
    transformer = new_transformer("ti2v")
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    pool = LatentPool("ti2v", load_vae("2.2"), seed, first=4)
    course = Course(steps=steps, timestep_per_token=True)
    folder.mkdir()
    train_flow(transformer, reader, pool, course, seed=seed, log=folder / "log.jsonl")
    assert isinstance(transformer.blocks[0].attn2.processor, WanAttnProcessor)
    return before, transformer.state_dict()


def test_equal_seeds_give_equal_transformers(tmp_path: Path) -> None:
    (before, first), (_, again), (_, other) = (train(tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1)))

    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["proj_out.weight"], other["proj_out.weight"])
    assert not torch.equal(first["proj_out.weight"], before["proj_out.weight"])
    [line] = (tmp_path / "0" / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 2


def test_a_text_encoder_without_gradients_stays_unchanged(tmp_path: Path) -> None:
    tokenizer = new_tokenizer()
    encoder = new_text_encoder(len(tokenizer)).requires_grad_(False)
    before = encoder.shared.weight.clone()
    pool = LatentPool("ti2v", load_vae("2.2"), 0, first=2)
    reader = TextReader(tokenizer, encoder)

    train_flow(
        new_transformer("ti2v"),
        reader,
        pool,
        Course(steps=1, timestep_per_token=True),
        seed=0,
        log=tmp_path / "log.jsonl",
    )

    assert torch.equal(encoder.shared.weight, before)


@torch.no_grad()
def test_the_widened_transformer_ignores_the_image_channels_at_first() -> None:
    transformer = new_transformer("t2v").eval()
    wide = widen(transformer).eval()
    latents_BCTHW, image_BCTHW = torch.randn(1, 12, 2, 4, 4), torch.randn(1, 16, 2, 4, 4)
    inputs = {"timestep": torch.tensor([700.0]), "encoder_hidden_states": torch.randn(1, 5, 96), "return_dict": False}

    expected_BCTHW = transformer(hidden_states=latents_BCTHW, **inputs)[0]
    found_BCTHW = wide(hidden_states=torch.cat([latents_BCTHW, image_BCTHW], dim=1), **inputs)[0]

    torch.testing.assert_close(found_BCTHW, expected_BCTHW)


def test_missing_parts_are_reported_in_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "wan22_bridge.tiny_training",
        "train",
        "--part",
        "ti2v",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        [*command, "--weights", str(tmp_path / "none")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "none" in done.stderr.splitlines()[-1]


def test_each_part_is_trained_from_the_parts_before_it(tmp_path: Path) -> None:
    for version in ("2.1", "2.2"):
        shutil.copytree(WEIGHTS / f"vae-{version}", tmp_path / f"vae-{version}")

    for part in ("text", "t2v", "i2v", "ti2v"):
        train_part(part, tmp_path, minutes=0.001, weights=tmp_path)

    for member in FAMILY:
        names = [{path.name for path in (weights / member).iterdir()} for weights in (tmp_path, WEIGHTS)]
        assert names[0] == names[1]
        assert all(path.exists() for path in find_parts(member, tmp_path).values())
    file = "transformer_2/diffusion_pytorch_model.safetensors"
    t2v, i2v = (load_file(tmp_path / member / file)["blocks.0.ffn.net.0.proj.weight"] for member in ("t2v", "i2v"))
    assert t2v.dtype == torch.float16
    assert torch.cosine_similarity(t2v.flatten().float(), i2v.flatten().float(), 0) > 0.9, (
        "I2V's training did not start from T2V"
    )
