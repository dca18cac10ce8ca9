"""The built-in models: their architecture, their files, and their assembly."""

import subprocess
import sys
from pathlib import Path

import pytest
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors import safe_open
from transformers import UMT5EncoderModel

from wan22_bridge.builtin import FAMILY, ensure_tiny_model, find_parts
from wan22_bridge.builtin.family import WEIGHTS


@pytest.mark.parametrize(
    ("member", "boundary", "channels", "z_dim", "stride"),
    [("t2v", 0.875, 12, 12, 8), ("i2v", 0.9, 28, 12, 8), ("ti2v", None, 24, 24, 16)],
)
def test_plain_diffusers_loads_a_member_with_the_architecture_of_its_model_type(
    member: str, boundary: float | None, channels: int, z_dim: int, stride: int, models_dir: Path
) -> None:
    pipeline = WanPipeline.from_pretrained(ensure_tiny_model(models_dir, member))
    assert isinstance(pipeline.vae, AutoencoderKLWan)
    assert isinstance(pipeline.text_encoder, UMT5EncoderModel)
    assert isinstance(pipeline.transformer, WanTransformer3DModel)
    assert isinstance(pipeline.scheduler, UniPCMultistepScheduler)
    assert (pipeline.transformer_2 is None) == (boundary is None)
    assert pipeline.config.boundary_ratio == boundary
    assert pipeline.config.expand_timesteps == (member == "ti2v")
    assert pipeline.transformer.config.in_channels == channels
    assert (pipeline.vae.config.z_dim, pipeline.vae.config.scale_factor_spatial) == (z_dim, stride)
    assert pipeline.tokenizer.is_fast
    assert pipeline.tokenizer.unk_token_id not in pipeline.tokenizer("A red circle, moving right!").input_ids


def test_a_member_is_assembled_from_the_packaged_weights(models_dir: Path) -> None:
    folder, parts = ensure_tiny_model(models_dir, "ti2v"), find_parts("ti2v")
    weights = sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors"))
    assert [str(path.parent) for path in weights] == ["text_encoder", "transformer", "vae"]
    assert all((folder / path).read_bytes() == (parts[path.parts[0]] / path.name).read_bytes() for path in weights)


def test_all_weights_are_in_fp16_and_below_40_mb() -> None:
    files = list(WEIGHTS.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) < 40e6
    for path in files:
        with safe_open(path, "pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"F16"}, path  # noqa: SIM118


def test_no_config_contains_a_path_of_the_training_machine() -> None:
    configs = list(WEIGHTS.rglob("*.json"))
    assert configs
    assert not [path for path in configs if "_name_or_path" in path.read_text()]


def test_concurrent_processes_assemble_each_member_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wan22_bridge.tiny_training", "make", str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    folders = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert len(folders) == len(FAMILY), "an incomplete folder was left"


def test_an_unknown_member_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="t2v, i2v, ti2v"):
        ensure_tiny_model(tmp_path, "v2v")
