"""Experts that are .gguf files: loaded as they are, planned for, and nothing else made of them."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gguf_files import write_gguf
from tests.jobs import make_params
from tests.loras import write_lora
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.unit.wan22_bridge.likeness import denoise, psnr
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import ConfigurationError, ModelCorrupted
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loras import LoraRack
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import Offload, Quantization, Residence, Wishes
from wan22_bridge.tuning.trials import list_trials
from wan22_bridge.types import LoraUse

SPEC = load_catalogue()["tiny-t2v"]
PARAMS = make_params(steps=6, width=96, height=64)
LoadAs = Callable[..., LoadedModel]


@pytest.fixture
def folder(load_exact: LoadModel, models_dir: Path, tmp_path: Path) -> Path:
    """The tiny model with .gguf files in place of its experts' safetensors."""
    folder: Path = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "model")
    for name in ("transformer", "transformer_2"):
        for path in (folder / name).glob("*.safetensors"):
            path.unlink()
        write_gguf(getattr(load_exact("tiny-t2v").text, name), folder / name / "expert-Q8_0.gguf")
    return folder


@pytest.fixture
def load_as(folder: Path, tmp_path: Path) -> Iterator[LoadAs]:
    """Loads it with changes to the plain plan."""
    models = []

    def load(**changes: Any) -> LoadedModel:
        plan = replace(base_plan("cpu", Quantization.GGUF), **changes)
        models.append(LoadedModel(SPEC, folder, plan, exact=True, scratch=tmp_path / "scratch"))
        return models[-1]

    yield load
    for model in models:
        model.close()


def test_the_bridge_takes_the_files_as_they_are(folder: Path, load_exact: LoadModel) -> None:
    model = ModelIntegrationBridge(exact=True).load(SPEC, folder)

    assert model.plan.quantization is Quantization.GGUF
    assert model.plan.describe() == ["gguf weights"]
    weight = model.text.transformer.blocks[0].ffn.net[2].weight
    assert weight.dtype is torch.uint8
    found, exact = denoise(model, PARAMS), denoise(load_exact("tiny-t2v"), PARAMS)
    assert not torch.equal(found, exact)
    assert psnr(found, exact) > 45


@pytest.mark.parametrize(
    "changes",
    [
        {"experts": Residence.ON_DEMAND, "offload": Offload.DISK},
        {"experts": Residence.STREAMED, "offload": Offload.DISK},
        {"experts": Residence.SEQUENTIAL, "offload": Offload.DISK},
    ],
)
def test_they_go_with_the_ways_to_save_memory(changes: dict[str, Any], load_as: LoadAs) -> None:
    assert psnr(denoise(load_as(**changes), PARAMS), denoise(load_as(), PARAMS)) > 120


def test_a_lora_works_on_them(load_as: LoadAs, load_exact: LoadModel, tmp_path: Path) -> None:
    write_lora(tmp_path / "style.safetensors")

    def run(model: LoadedModel) -> torch.Tensor:
        conditioning = prepare_conditioning(model, PARAMS, TextCache(), Path())
        with_lora = Denoising(model, PARAMS, conditioning, None, LoraRack(tmp_path, [LoraUse(name="style")]))
        list(with_lora.steps())
        denoise(load_exact("tiny-t2v"), PARAMS)
        return with_lora.latents_BCTHW

    model = load_as()
    plain = denoise(model, PARAMS)
    found = run(model)
    assert psnr(found, plain) < 33
    assert psnr(found, run(load_exact("tiny-t2v"))) > 35
    assert torch.equal(denoise(model, PARAMS), plain)


@pytest.mark.parametrize("wished", [Quantization.FP8, Quantization.INT8, Quantization.NONE])
def test_nothing_else_can_be_made_of_them(wished: Quantization, folder: Path) -> None:
    bridge = ModelIntegrationBridge(wishes=Wishes(quantization=wished))
    with pytest.raises(ConfigurationError, match=f"can't be quantised to {wished}"):
        bridge.load(SPEC, folder)


def test_a_model_without_them_is_not_gguf(models_dir: Path) -> None:
    bridge = ModelIntegrationBridge(wishes=Wishes(quantization=Quantization.GGUF))
    with pytest.raises(ConfigurationError, match=r"not in \.gguf files"):
        bridge.load(SPEC, ensure_tiny_model(models_dir, "t2v"))


def _remove_one(folder: Path) -> None:
    (folder / "transformer_2" / "expert-Q8_0.gguf").unlink()


def _add_another(folder: Path) -> None:
    shutil.copy(folder / "transformer" / "expert-Q8_0.gguf", folder / "transformer" / "other.gguf")


def _tear(folder: Path) -> None:
    path = folder / "transformer" / "expert-Q8_0.gguf"
    path.write_bytes(path.read_bytes()[:5000])


def _take_from_another(folder: Path) -> None:
    (folder / "transformer" / "expert-Q8_0.gguf").write_bytes(b"GGUF, it says")


@pytest.mark.parametrize("spoil", [_remove_one, _add_another, _tear, _take_from_another])
def test_a_wrong_set_of_files_is_refused(spoil: Callable[[Path], None], folder: Path) -> None:
    spoil(folder)
    with pytest.raises(ModelCorrupted) as raised:
        ModelIntegrationBridge().load(SPEC, folder)
    assert str(folder) not in raised.value.message


def test_only_what_can_be_done_with_them_is_tried() -> None:
    names = {trial.name for trial in list_trials("cpu", PARAMS, in_gguf=True, calibrated=False)}
    others = {trial.name for trial in list_trials("cpu", PARAMS)}

    assert others - names == {
        "fp8 weights",
        "fp8 blocks streamed",
        "int8 weights",
        "int8 blocks streamed",
        "step cache magcache",
    }
    assert {trial.plan.quantization for trial in list_trials("cpu", PARAMS, in_gguf=True)} == {Quantization.GGUF}
