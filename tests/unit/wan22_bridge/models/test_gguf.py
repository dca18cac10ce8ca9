"""Tests of experts in .gguf files: loading, plans, and the rejection of other quantizations."""

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
from wan22_bridge.plans import Offload, PlanConstraints, Quantization, Residence
from wan22_bridge.tuning.trials import list_trials
from wan22_bridge.types import LoraUse

pytestmark = pytest.mark.slow

SPEC = load_catalogue()["tiny-t2v"]
PARAMS = make_params(steps=6, width=96, height=64)
LoadAs = Callable[..., LoadedModel]


@pytest.fixture
def folder(load_exact: LoadModel, models_dir: Path, tmp_path: Path) -> Path:
    """Returns the folder of a tiny model whose experts are .gguf files instead of safetensors files."""
    folder: Path = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "model")
    for name in ("transformer", "transformer_2"):
        for path in (folder / name).glob("*.safetensors"):
            path.unlink()
        write_gguf(getattr(load_exact("tiny-t2v").text, name), folder / name / "expert-Q8_0.gguf")
    return folder


@pytest.fixture
def load_as(folder: Path, tmp_path: Path) -> Iterator[LoadAs]:
    """Returns a function that loads the model under a plan with changes to the plain plan."""
    models = []

    def load(**changes: Any) -> LoadedModel:
        plan = replace(base_plan("cpu", Quantization.GGUF), **changes)
        models.append(LoadedModel(SPEC, folder, plan, exact=True, scratch=tmp_path / "scratch"))
        return models[-1]

    yield load
    for model in models:
        model.close()


def test_bridge_loads_gguf_experts_without_conversion(folder: Path, load_exact: LoadModel) -> None:
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
def test_gguf_experts_work_with_every_way_to_save_memory(changes: dict[str, Any], load_as: LoadAs) -> None:
    assert psnr(denoise(load_as(**changes), PARAMS), denoise(load_as(), PARAMS)) > 120


def test_lora_works_on_gguf_experts(load_as: LoadAs, load_exact: LoadModel, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("required", [Quantization.FP8, Quantization.INT8, Quantization.NONE])
def test_gguf_experts_reject_other_quantizations(required: Quantization, folder: Path) -> None:
    bridge = ModelIntegrationBridge(constraints=PlanConstraints(quantization=required))
    with pytest.raises(ConfigurationError, match=f"can't be quantized to {required}"):
        bridge.load(SPEC, folder)


def test_model_without_gguf_files_rejects_the_gguf_quantization(models_dir: Path) -> None:
    bridge = ModelIntegrationBridge(constraints=PlanConstraints(quantization=Quantization.GGUF))
    with pytest.raises(ConfigurationError, match=r"are not \.gguf files"):
        bridge.load(SPEC, ensure_tiny_model(models_dir, "t2v"))


def _remove_one(folder: Path) -> None:
    (folder / "transformer_2" / "expert-Q8_0.gguf").unlink()


def _add_another(folder: Path) -> None:
    shutil.copy(folder / "transformer" / "expert-Q8_0.gguf", folder / "transformer" / "other.gguf")


def _truncate(folder: Path) -> None:
    path = folder / "transformer" / "expert-Q8_0.gguf"
    path.write_bytes(path.read_bytes()[:5000])


def _overwrite_with_text(folder: Path) -> None:
    (folder / "transformer" / "expert-Q8_0.gguf").write_bytes(b"GGUF, but only as text")


@pytest.mark.parametrize("spoil", [_remove_one, _add_another, _truncate, _overwrite_with_text])
def test_wrong_set_of_gguf_files_is_rejected(spoil: Callable[[Path], None], folder: Path) -> None:
    spoil(folder)
    with pytest.raises(ModelCorrupted) as raised:
        ModelIntegrationBridge().load(SPEC, folder)
    assert str(folder) not in raised.value.message


def test_trials_omit_quantizations_for_gguf_experts() -> None:
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
