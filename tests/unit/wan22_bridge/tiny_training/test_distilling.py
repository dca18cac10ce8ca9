"""Distillation pairs, and the training of LoRAs that the engine can load."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from safetensors import safe_open

from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.builtin.family import WEIGHTS
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_files import find_lora
from wan22_bridge.models.loras import LoraRack
from wan22_bridge.tiny_training.distilling import TeacherPool
from wan22_bridge.tiny_training.flow_training import BATCH, TextReader
from wan22_bridge.tiny_training.latents import FRAMES, SIDE, Batch, LatentPool
from wan22_bridge.tiny_training.lora_training import train_lightning, train_neon
from wan22_bridge.tiny_training.networks import new_tokenizer
from wan22_bridge.tiny_training.scenes import NEON
from wan22_bridge.tiny_training.trained import load_text_encoder, load_transformer, load_vae
from wan22_bridge.types import LoraUse

pytestmark = pytest.mark.slow

SPEC = replace(load_catalogue()["tiny-ti2v"], steps=3)


def make_text() -> TextReader:
    return TextReader(new_tokenizer(), load_text_encoder())


@pytest.fixture(scope="module")
def batch() -> Batch:
    scenes = LatentPool("ti2v", load_vae("2.2"), 0, first=4)
    pool = TeacherPool([load_transformer("ti2v", "transformer")], make_text(), scenes, SPEC, seed=0, batches=1)
    return pool.draw(BATCH, empty=0)


@torch.no_grad()
def test_the_teacher_generates_the_latents_of_the_diffusers_pipeline(batch: Batch, models_dir: Path) -> None:
    index = int((~batch.given_B).nonzero()[0])
    pipeline = WanPipeline.from_pretrained(ensure_tiny_model(models_dir, "ti2v"), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=SPEC.flow_shift)

    expected_BCTHW = pipeline(
        batch.prompts[index],
        negative_prompt="",
        width=SIDE,
        height=SIDE,
        num_frames=FRAMES,
        num_inference_steps=SPEC.steps,
        guidance_scale=SPEC.guidance_scale,
        latents=batch.noise_BCTHW[index : index + 1],
        output_type="latent",
    ).frames

    found_BCTHW = batch.latents_BCTHW[index : index + 1]
    error = (found_BCTHW - expected_BCTHW).square().mean().sqrt() / expected_BCTHW.std()
    assert error < 0.05, "the difference is larger than that of bf16 and fp32"


def test_given_frames_stay_unchanged(batch: Batch) -> None:
    assert 0 < batch.given_B.sum() < BATCH
    again = LatentPool("ti2v", load_vae("2.2"), 0, first=4).draw(BATCH, empty=0)
    given = batch.given_B
    assert torch.equal(again.given_B, given)
    assert torch.equal(batch.latents_BCTHW[given][:, :, 0], again.latents_BCTHW[given][:, :, 0])
    assert not torch.equal(batch.latents_BCTHW[~given][:, :, 0], again.latents_BCTHW[~given][:, :, 0])


def test_the_engine_loads_a_trained_lightning_lora(tmp_path: Path) -> None:
    [file] = train_lightning("ti2v", tmp_path, steps=2, seed=0, weights=WEIGHTS, scenes=1)

    with safe_open(file, "pt") as weights:
        assert any(weights.get_tensor(name).abs().max() > 0 for name in weights.keys() if "lora_B" in name)  # noqa: SIM118
    expert = load_transformer("ti2v", "transformer")
    LoraRack(file.parent, [LoraUse(name=file.stem)]).use(expert, Expert.HIGH_NOISE)
    assert expert.peft_config


def test_the_style_lora_has_a_file_for_each_expert(tmp_path: Path) -> None:
    high, low = train_neon(tmp_path, steps=1, seed=0, weights=WEIGHTS, scenes=1)

    found = find_lora(high.parent, "tiny-neon")
    assert (found.high_noise, found.low_noise, found.trigger_words) == (high, low, (NEON,))
    assert found.size_bytes < 1.2e6
