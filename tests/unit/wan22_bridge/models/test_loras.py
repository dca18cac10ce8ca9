"""Tests of LoRAs: effects on the video, removal without a trace, and rejection of wrong files."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.jobs import make_params
from tests.loras import WIDTH, write_lora
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.unit.wan22_bridge.likeness import psnr
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.lora_files import find_lora, list_loras
from wan22_bridge.models.loras import LoraRack, unload_loras
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.snapshots import fingerprint
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import Offload, Quantization, Residence
from wan22_bridge.tiny_training.scenes import NEON
from wan22_bridge.types import LoraUse

pytestmark = pytest.mark.slow

PARAMS = make_params(steps=6, width=96, height=64)


@pytest.fixture
def model(load_exact: LoadModel) -> Iterator[LoadedModel]:
    loaded = load_exact("tiny-t2v")
    yield loaded
    for expert in (loaded.text.transformer, loaded.text.transformer_2):
        unload_loras(expert)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., torch.Tensor]:
    def run(model: LoadedModel, *uses: LoraUse) -> torch.Tensor:
        params = replace(PARAMS, loras=uses)
        conditioning = prepare_conditioning(model, params, TextCache(), Path())
        denoising = Denoising(model, params, conditioning, loras=LoraRack(tmp_path, uses))
        for _ in denoising.steps():
            pass
        return denoising.latents_BCTHW

    return run


def test_lora_changes_the_video_and_leaves_no_trace(model: LoadedModel, run: Any, tmp_path: Path) -> None:
    write_lora(tmp_path / "style.safetensors")
    before = run(model)
    layers = [type(module) for module in model.text.transformer.modules()]

    styled = run(model, LoraUse(name="style"))

    assert not torch.equal(styled, before)
    assert torch.equal(run(model, LoraUse(name="style")), styled)
    assert torch.equal(run(model), before)
    assert [type(module) for module in model.text.transformer.modules()] == layers


def test_effect_grows_with_the_strength_which_each_expert_has_for_itself(
    model: LoadedModel, run: Any, tmp_path: Path
) -> None:
    write_lora(tmp_path / "style.safetensors")
    plain = run(model)

    likeness = [
        psnr(run(model, LoraUse(name="style", high_noise_strength=s, low_noise_strength=s)), plain)
        for s in (0.0, 0.3, 0.6, 1.0)
    ]
    high, low = (run(model, LoraUse(name="style", high_noise_strength=h, low_noise_strength=1 - h)) for h in (1.0, 0.0))

    assert likeness[0] == math.inf
    assert likeness == sorted(likeness, reverse=True)
    assert len({float(x.sum()) for x in (plain, high, low)}) == 3


def test_several_loras_add_up_in_any_order(model: LoadedModel, run: Any, tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        write_lora(tmp_path / f"{name}.safetensors", seed=seed)
    uses = LoraUse(name="one"), LoraUse(name="two")

    both = run(model, *uses)

    assert psnr(run(model, *reversed(uses)), both) > 100
    assert not torch.equal(both, run(model, uses[0]))
    assert not torch.equal(both, run(model, uses[1]))
    assert torch.equal(run(model, *uses), both)


def test_lora_name_can_have_dots_and_spaces(model: LoadedModel, run: Any, tmp_path: Path) -> None:
    write_lora(tmp_path / "style.safetensors")
    write_lora(tmp_path / "My Style v1.2.safetensors")

    assert torch.equal(run(model, LoraUse(name="My Style v1.2")), run(model, LoraUse(name="style")))


def test_lora_can_have_a_file_for_each_expert(model: LoadedModel, run: Any, tmp_path: Path) -> None:
    write_lora(tmp_path / "fast.high_noise.safetensors", seed=1)
    write_lora(tmp_path / "fast.low_noise.safetensors", seed=2)
    write_lora(tmp_path / "first.safetensors", seed=1)
    write_lora(tmp_path / "second.safetensors", seed=2)

    pair = run(model, LoraUse(name="fast"))

    by_hand = run(model, LoraUse(name="first", low_noise_strength=0.0), LoraUse(name="second", high_noise_strength=0.0))
    assert torch.equal(pair, by_hand)


def test_layer_names_of_other_programs_are_supported(model: LoadedModel, run: Any, tmp_path: Path) -> None:
    write_lora(tmp_path / "ours.safetensors")
    expected = run(model, LoraUse(name="ours"))
    names = {"attn1.to_q": "self_attn.q", "attn2.to_out.0": "cross_attn.o"}
    weights = {}
    generator = torch.Generator().manual_seed(0)
    for index in range(2):
        for layer in names.values():
            for part, shape in (("down", (4, WIDTH)), ("up", (WIDTH, 4))):
                weights[f"diffusion_model.blocks.{index}.{layer}.lora_{part}.weight"] = 0.3 * torch.randn(
                    shape, generator=generator
                )
    save_file(weights, tmp_path / "theirs.safetensors")

    assert psnr(run(model, LoraUse(name="theirs")), expected) > 100


def test_replaced_file_counts_as_another_lora(model: LoadedModel, run: Any, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "style.safetensors", seed=1)
    first, first_identity = run(model, LoraUse(name="style")), LoraRack(tmp_path, [LoraUse(name="style")]).identity
    path.unlink()
    write_lora(path, seed=2)

    assert LoraRack(tmp_path, [LoraUse(name="style")]).identity != first_identity
    assert not torch.equal(run(model, LoraUse(name="style")), first)


@pytest.mark.parametrize(
    "changes",
    [
        {"quantization": Quantization.FP8},
        {"quantization": Quantization.INT8},
        {"quantization": Quantization.INT8, "experts": Residence.ON_DEMAND, "offload": Offload.DISK},
        {"quantization": Quantization.FP8, "experts": Residence.STREAMED, "offload": Offload.DISK},
        {"experts": Residence.STREAMED, "offload": Offload.DISK},
        {"experts": Residence.ON_DEMAND, "offload": Offload.DISK},
    ],
)
def test_lora_works_with_every_way_to_save_memory(
    changes: dict[str, Any], run: Any, model: LoadedModel, models_dir: Path, tmp_path: Path
) -> None:
    write_lora(tmp_path / "style.safetensors")
    plan = replace(base_plan("cpu"), **changes)
    saving = LoadedModel(
        load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"), plan, exact=True, scratch=tmp_path / "s"
    )

    found, plain = run(saving, LoraUse(name="style")), run(saving)

    assert psnr(found, run(model, LoraUse(name="style"))) > (30 if "quantization" in changes else 120)
    assert psnr(found, plain) < 33
    saving.close()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "model of another size": (
        lambda path: write_lora(path, width=64),
        "lora_incompatible",
        "64 channels, and this model has 192",
    ),
    "Wan2.1 I2V": (
        lambda path: save_file({"transformer.blocks.0.attn2.add_k_proj.lora_A.weight": torch.zeros(4, WIDTH)}, path),
        "lora_incompatible",
        "Wan2.1 image-to-video",
    ),
    "model with more layers": (
        lambda path: save_file({"transformer.blocks.39.attn1.to_q.lora_A.weight": torch.zeros(4, WIDTH)}, path),
        "lora_incompatible",
        "no layer blocks.39.attn1.to_q",
    ),
    "whole model instead of a LoRA": (
        lambda path: save_file({"blocks.0.attn1.to_q.weight": torch.zeros(WIDTH, WIDTH)}, path),
        "lora_incompatible",
        "not a LoRA weight",
    ),
    "no weights": (lambda path: save_file({}, path), "lora_incompatible", "no LoRA weights"),
    "truncated file": (lambda path: _truncate(write_lora(path)), "lora_unreadable", "its tensors need"),
    "pickle": (lambda path: torch.save({"a": torch.zeros(2)}, path), "lora_unreadable", "not a safetensors file"),
    "empty file": (lambda path: path.touch(), "lora_unreadable", "not a safetensors file"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_lora_is_rejected_and_leaves_the_model_unchanged(
    wrong: str, model: LoadedModel, run: Any, tmp_path: Path
) -> None:
    spoil, code, reason = WRONG[wrong]
    spoil(tmp_path / "wrong.safetensors")
    before = run(model)

    with pytest.raises(InvalidRequest, match=reason) as raised:
        run(model, LoraUse(name="wrong"))

    assert raised.value.code == code
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("name", ["missing", "../secret", "", "a/b", ".secret", "a. ", "x" * 101])
def test_unknown_lora_is_rejected_with_the_available_loras(name: str, tmp_path: Path) -> None:
    write_lora(tmp_path / "style.safetensors")
    write_lora(tmp_path.parent / "secret.safetensors")

    with pytest.raises(InvalidRequest, match="There is no LoRA") as raised:
        find_lora(tmp_path, name)
    built_in = "tiny-lightning-i2v, tiny-lightning-t2v, tiny-lightning-ti2v, tiny-neon"
    assert raised.value.suggestions == [f"Available LoRAs: style, {built_in}."]


def test_too_large_file_is_rejected_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "huge.safetensors").open("wb") as file:
        file.truncate(5 * 2**30)

    with pytest.raises(InvalidRequest, match="at most 4 GB"):
        find_lora(tmp_path, "huge")


def test_list_has_the_trigger_words_and_omits_broken_files(tmp_path: Path) -> None:
    write_lora(tmp_path / "style.safetensors", metadata={"modelspec.trigger_phrase": "neon outlines"})
    write_lora(tmp_path / "fast.high_noise.safetensors")
    write_lora(tmp_path / "fast.low_noise.safetensors")
    (tmp_path / "broken.safetensors").touch()

    found = list_loras(tmp_path)

    own = [(lora.name, lora.trigger_words) for lora in found if lora.name in ("broken", "fast", "style")]
    assert own == [("fast", ()), ("style", ("neon outlines",))]
    assert found[0].high_noise != found[0].low_noise


def test_built_in_loras_exist_unless_the_folder_has_a_lora_of_the_same_name(tmp_path: Path) -> None:
    names = ["tiny-lightning-i2v", "tiny-lightning-t2v", "tiny-lightning-ti2v", "tiny-neon"]
    assert [lora.name for lora in list_loras(tmp_path / "nowhere")] == names
    built_in = find_lora(tmp_path, "tiny-neon")
    assert built_in.trigger_words == (NEON,)

    own = write_lora(tmp_path / "tiny-neon.safetensors")

    assert find_lora(tmp_path, "tiny-neon").high_noise == own
    assert [lora.name for lora in list_loras(tmp_path)] == names


def test_lora_is_part_of_the_fingerprint_and_of_serialized_parameters(models_dir: Path, tmp_path: Path) -> None:
    write_lora(tmp_path / "loras" / "style.safetensors")
    bridge = ModelIntegrationBridge(loras=tmp_path / "loras")
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))
    params = replace(PARAMS, loras=(LoraUse(name="style", low_noise_strength=0.5),))

    for _ in bridge.generate(model, params, tmp_path / "out"):
        pass

    assert type(params).from_dict(params.to_dict()) == params
    assert fingerprint("w", params) != fingerprint("w", PARAMS)
    with pytest.raises(InvalidRequest, match="There is no LoRA"):
        next(bridge.generate(model, replace(PARAMS, loras=(LoraUse(name="none"),)), tmp_path / "other"))
