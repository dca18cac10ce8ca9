"""Tests of the ways to save memory: their effect on memory and on the result."""

import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from PIL import Image

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.unit.wan22_bridge.likeness import denoise, psnr
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import ConfigurationError, OutOfMemory
from wan22_bridge.models.latent_scale import to_vae_scale
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loading import load_component
from wan22_bridge.models.offload_dir import OffloadDir
from wan22_bridge.models.pinning import pin_without_rounding
from wan22_bridge.options import StepCache
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.decoding import count_parts, decode_frames
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.estimates import PROCESS_BYTES
from wan22_bridge.planning.hardware import detect_hardware
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import Offload, OptimizationPlan, PlanConstraints, Quantization, Residence
from wan22_bridge.types import GenerationResult

pytestmark = pytest.mark.slow

PARAMS = make_params(steps=6, width=96, height=64)
LoadAs = Callable[..., LoadedModel]


@pytest.fixture
def load_as(models_dir: Path, tmp_path: Path) -> Iterator[LoadAs]:
    """Returns a function that loads tiny-t2v with changes to the plain plan. Its offload folder is in `scratch`."""
    models = []

    def load(**changes: Any) -> LoadedModel:
        plan = replace(base_plan("cpu"), **changes)
        folder = ensure_tiny_model(models_dir, "t2v")
        models.append(LoadedModel(load_catalogue()["tiny-t2v"], folder, plan, exact=True, scratch=tmp_path / "scratch"))
        return models[-1]

    yield load
    for model in models:
        model.close()


@pytest.mark.parametrize("residence", [Residence.STREAMED, Residence.SEQUENTIAL])
def test_weights_streamed_from_the_disk_give_the_same_result(
    residence: Residence, load_as: LoadAs, load_exact: LoadModel, tmp_path: Path
) -> None:
    model = load_as(experts=residence, text_encoder=residence, offload=Offload.DISK)

    [folder] = (path for path in (tmp_path / "scratch").iterdir() if path.is_dir())
    assert {path.name for path in folder.iterdir()} == {"transformer", "transformer_2", "text_encoder"}
    assert all(list(path.glob("*.safetensors")) for path in folder.iterdir())
    # Results differ by rounding, because the address of a layer's weights determines how CPU kernels group their sums.
    assert psnr(denoise(model, PARAMS), denoise(load_exact("tiny-t2v"), PARAMS)) >= 110
    model.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_offloaded_blocks_are_on_the_disk_and_not_in_memory(
    load_as: LoadAs, load_exact: LoadModel, tmp_path: Path
) -> None:
    plain = load_exact("tiny-t2v")
    model = load_as(experts=Residence.STREAMED, text_encoder=Residence.STREAMED, offload=Offload.DISK)

    off, there = (each.text.transformer.blocks[1].ffn.net[2].weight for each in (model, plain))
    assert not torch.equal(off, there)
    [folder] = (path for path in (tmp_path / "scratch").iterdir() if path.is_dir())
    groups = {path.name: len(list(path.iterdir())) for path in folder.iterdir()}
    assert groups == {"transformer": 5 + 1, "transformer_2": 5 + 1, "text_encoder": 2 + 1}  # blocks and the rest


def test_only_one_expert_is_in_memory_at_a_time(load_as: LoadAs, load_exact: LoadModel) -> None:
    model = load_as(experts=Residence.ON_DEMAND, text_encoder=Residence.ON_DEMAND, offload=Offload.DISK)
    names = ("text_encoder", "transformer", "transformer_2")

    def present() -> list[str]:
        return [name for name in names if getattr(model.text, name) is not None]

    assert present() == []
    conditioning = prepare_conditioning(model, PARAMS, TextCache(), Path())
    assert present() == ["text_encoder"]
    run = Denoising(model, PARAMS, conditioning)
    during = [(step.expert.label, present()) for step in run.steps()]

    assert set(map(str, during)) == {
        "('high_noise', ['transformer'])",
        "('low_noise', ['transformer_2'])",
    }
    assert torch.equal(run.latents_BCTHW, denoise(load_exact("tiny-t2v"), PARAMS))


def test_step_cache_releases_one_expert_before_the_next_expert_is_read(
    load_as: LoadAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_as(experts=Residence.ON_DEMAND, text_encoder=Residence.ON_DEMAND, offload=Offload.DISK)
    params = replace(PARAMS, step_cache=StepCache.FIRST_BLOCK)
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), Path()))
    steps = run.steps()
    next(steps)
    first, left = weakref.ref(model.text.transformer), []

    def read(name: str, *given: Any, **named: Any) -> torch.nn.Module:
        left.append((name, first() is None))
        return load_component(name, *given, **named)

    monkeypatch.setattr("wan22_bridge.models.loaded.load_component", read)
    for _ in steps:
        pass

    assert left == [("transformer_2", True)]


def test_fp8_weights_take_less_memory_and_change_the_result_little(load_as: LoadAs, load_exact: LoadModel) -> None:
    model = load_as(quantization=Quantization.FP8)
    block = model.text.transformer_2.blocks[0]

    assert block.ffn.net[2].weight.dtype is torch.float8_e4m3fn
    assert block.norm2.weight.dtype is torch.float32
    found, exact = denoise(model, PARAMS), denoise(load_exact("tiny-t2v"), PARAMS)
    assert not torch.equal(found, exact)
    assert psnr(found, exact) > 35


def test_fp8_weights_can_be_streamed(load_as: LoadAs) -> None:
    resident = denoise(load_as(quantization=Quantization.FP8), PARAMS)
    streamed = load_as(quantization=Quantization.FP8, experts=Residence.STREAMED, offload=Offload.DISK)

    assert psnr(denoise(streamed, PARAMS), resident) > 110


def test_int8_weights_change_the_result_less_than_fp8_weights(load_as: LoadAs, load_exact: LoadModel) -> None:
    model, fp8 = load_as(quantization=Quantization.INT8), load_as(quantization=Quantization.FP8)
    expert = model.text.transformer_2

    assert type(expert.blocks[0].ffn.net[2].weight).__name__ == "Int8Tensor"
    assert type(expert.condition_embedder.time_embedder.linear_1.weight) is torch.nn.Parameter
    found, exact = denoise(model, PARAMS), denoise(load_exact("tiny-t2v"), PARAMS)
    assert psnr(found, exact) > max(45, psnr(denoise(fp8, PARAMS), exact))


@pytest.mark.parametrize("changes", [{"experts": Residence.ON_DEMAND, "offload": Offload.DISK}, {"vae_tile": 64}])
def test_int8_weights_work_with_other_ways_to_save_memory(changes: dict[str, Any], load_as: LoadAs) -> None:
    plain = denoise(load_as(quantization=Quantization.INT8), PARAMS)

    assert torch.equal(denoise(load_as(quantization=Quantization.INT8, **changes), PARAMS), plain)


@pytest.mark.parametrize("model_id", ["tiny-t2v", "tiny-ti2v"])
def test_tiled_decoding_equals_diffusers_and_is_close_to_whole_frames(model_id: str, load_exact: LoadModel) -> None:
    model = load_exact(model_id)
    vae, tile = model.text.vae, 64
    params = make_params(model=model_id, model_type=model.spec.type, guidance_scale_2=None)
    latents = denoise(model, replace(params, width=160, height=96))
    whole = np.concatenate(list(decode_frames(vae, latents)))

    parts = list(decode_frames(vae, latents, tile))

    vae.enable_tiling(tile, tile, 48, 48)
    with torch.no_grad():
        expected = vae.decode(to_vae_scale(vae, latents), return_dict=False)[0]
    vae.disable_tiling()
    assert len(parts) == count_parts(vae, latents, tile) == 2 * 4 * latents.shape[2]
    assert [len(part) for part in parts] == [0] * (len(parts) - 1) + [params.num_frames]
    unit = (expected / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 3, 0).numpy()
    assert np.array_equal(parts[-1], (unit * 255).round().astype(np.uint8))
    # TI2V's tiles are only four latents wide, so much of a pixel's receptive field lies outside its tile.
    least = 12 if model_id == "tiny-ti2v" else 20
    assert psnr(torch.from_numpy(parts[-1]).float(), torch.from_numpy(whole).float()) > least


def test_frame_no_larger_than_a_tile_is_decoded_whole(load_exact: LoadModel) -> None:
    model = load_exact("tiny-t2v")
    latents = denoise(model, PARAMS)

    assert len(list(decode_frames(model.text.vae, latents, 128))) == latents.shape[2]


def test_attention_backend_of_one_model_leaves_other_models_unchanged(load_as: LoadAs, load_exact: LoadModel) -> None:
    exact = denoise(load_exact("tiny-t2v"), PARAMS)
    model = load_as(attention_backend="_native_math")

    assert model.text.transformer_2.blocks[1].attn1.processor._attention_backend.value == "_native_math"
    assert psnr(denoise(model, PARAMS), exact) > 100
    assert torch.equal(denoise(load_exact("tiny-t2v"), PARAMS), exact)


@pytest.mark.parametrize("backend", ["flash", "nothing"])
def test_unavailable_attention_backend_is_rejected(backend: str, load_as: LoadAs) -> None:
    with pytest.raises(ConfigurationError, match=f"attention backend '{backend}' can't be used here"):
        load_as(attention_backend=backend)


def test_compiled_blocks_differ_by_rounding_only(load_as: LoadAs, load_exact: LoadModel) -> None:
    model = load_as(compiled=True)

    assert psnr(denoise(model, PARAMS), denoise(load_exact("tiny-t2v"), PARAMS)) > 90
    assert all(block._compiled_call_impl is not None for block in model.text.transformer.blocks)


def test_compiled_blocks_are_not_recompiled_for_each_job(load_as: LoadAs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    model = load_as(compiled=True)
    denoise(model, PARAMS)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]

    for seed in range(2):
        denoise(model, replace(PARAMS, seed=seed, prompt=f"another prompt {seed}"))

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled > 0


def finish(run: Any) -> GenerationResult:
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def _read_last_frame(result: GenerationResult) -> torch.Tensor:
    """Reads the last frame, which no lossy codec has changed, as [height, width, 3] in 0..255."""
    return torch.from_numpy(np.array(Image.open(result.last_frame), dtype=np.float32))


def test_generation_that_ran_out_of_memory_resumes_at_the_same_step_with_the_same_result(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, folder = load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v")
    bridge = ModelIntegrationBridge(
        constraints=PlanConstraints(quantization=Quantization.NONE), scratch=tmp_path / "scratch"
    )
    model = bridge.load(spec, folder)
    expected = _read_last_frame(finish(bridge.generate(model, PARAMS, tmp_path / "expected")))
    forward, calls = WanTransformer3DModel.forward, 0

    def run_out_once(self: WanTransformer3DModel, hidden_states: torch.Tensor, **given: Any) -> Any:
        nonlocal calls
        if hidden_states.is_meta:  # traced by the planner
            return forward(self, hidden_states, **given)
        calls += 1
        if calls == 6:  # the second pass of the third step
            raise torch.OutOfMemoryError
        return forward(self, hidden_states, **given)

    monkeypatch.setattr(WanTransformer3DModel, "forward", run_out_once)
    result = finish(bridge.generate(model, PARAMS, tmp_path / "out"))

    assert calls == 2 * PARAMS.steps + 2
    # Pixels differ by rounding, because CPU kernels sum weights at other addresses in another order.
    assert psnr(_read_last_frame(result), expected) > 50
    assert result.optimizations_applied == ["experts streamed", "text encoder streamed", "offload to disk"]
    assert result.offload_used
    assert result.quantization_used is None
    assert result.resumed_from_step == 0
    model.close()


def limited(free_bytes: int, tmp_path: Path) -> ModelIntegrationBridge:
    """Returns a bridge on a machine with `free_bytes` of RAM in addition to the process's own RAM."""
    ram = PROCESS_BYTES["cpu"] + free_bytes
    hardware = replace(detect_hardware(tmp_path), ram_available_bytes=ram)
    return ModelIntegrationBridge(hardware=hardware, scratch=tmp_path / "scratch")


def test_request_that_does_not_fit_beside_the_model_gets_another_plan(models_dir: Path, tmp_path: Path) -> None:
    bridge = limited(160 * 2**20, tmp_path)
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))
    before: OptimizationPlan = model.plan

    result = finish(bridge.generate(model, make_params(width=640, height=480, steps=1), tmp_path / "out"))

    assert before.vae_tile is None
    assert model.plan.vae_tile is not None
    assert f"vae tiles of {model.plan.vae_tile} px" in result.optimizations_applied
    model.close()


def test_request_that_cannot_fit_is_rejected_before_it_starts(models_dir: Path, tmp_path: Path) -> None:
    bridge = limited(200 * 2**20, tmp_path)
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))
    run = bridge.generate(model, make_params(width=960, height=544, num_frames=33), tmp_path / "out")

    with pytest.raises(OutOfMemory, match="960x544 with 33 frames does not fit") as raised:
        finish(run)
    assert "fits" in raised.value.suggestions[0]
    assert not (tmp_path / "out").exists()


def test_model_that_cannot_fit_is_not_loaded(models_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="does not fit"):
        limited(2**20, tmp_path).load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))


def test_running_out_while_decoding_changes_the_tile_and_reloads_nothing(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = ModelIntegrationBridge(scratch=tmp_path / "scratch")
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))
    expert = model.text.transformer
    failures = [torch.OutOfMemoryError()]

    def run_out_once(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return decode_frames(*given)

    monkeypatch.setattr("wan22_bridge.pipeline.generation.decode_frames", run_out_once)
    large = replace(PARAMS, width=640, height=480, steps=1)
    result = finish(bridge.generate(model, large, tmp_path / "out"))

    assert model.text.transformer is expert
    assert result.optimizations_applied == ["vae tiles of 512 px"]
    model.close()


def test_a_change_between_resident_and_on_demand_reloads_nothing(load_as: LoadAs) -> None:
    model = load_as()
    before, parts = model.plan, {name: getattr(model.text, name) for name in model.components}
    off = replace(before, experts=Residence.ON_DEMAND, text_encoder=Residence.ON_DEMAND, vae=Residence.ON_DEMAND)

    for plan in (off, before):
        assert list(model.replan(plan)) == []
        assert model.plan == plan
        denoise(model, PARAMS)
        assert all(getattr(model.text, name) is part for name, part in parts.items())


def test_the_memory_of_the_weights_is_that_under_the_present_plan(
    load_as: LoadAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a CPU no weights are on a GPU. Those that the plan keeps in place stand for them.
    monkeypatch.setattr(LoadedModel, "device_bytes", property(_count_resident_bytes))
    model = load_as()
    before, whole = model.plan, model.placed_bytes
    off = replace(before, experts=Residence.ON_DEMAND)

    list(model.replan(off))
    assert 0 < model.placed_bytes < whole
    list(model.replan(replace(before, quantization=Quantization.FP8)))
    assert 0 < model.placed_bytes < whole, "a reload measures anew"
    list(model.replan(before))
    assert model.placed_bytes == whole
    model.close()
    assert model.placed_bytes == 0


def _count_resident_bytes(model: LoadedModel) -> int:
    resident = [name for name in model.components if model.plan.residence_of(name) is Residence.RESIDENT]
    return sum(weight.nbytes for name in resident for weight in getattr(model.text, name).parameters())


def test_weights_are_pinned_without_rounding() -> None:
    assert pin_without_rounding()
    assert "pinned_max_round_threshold_mb:1" in torch._C._accelerator_getAllocatorSettings()


def test_offload_folder_of_a_killed_process_is_removed_but_not_that_of_a_living_process(
    load_as: LoadAs, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    living = OffloadDir(scratch)
    code = "import os, sys; from pathlib import Path; from wan22_bridge.models.offload_dir import OffloadDir;"
    code += "offloaded = OffloadDir(Path(sys.argv[1])); print(offloaded.folder, flush=True); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(scratch)], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.is_dir()

    load_as(experts=Residence.STREAMED, offload=Offload.DISK)

    assert not left.exists()
    assert living.folder.is_dir()
    living.remove()
    assert len(list(scratch.iterdir())) == 2  # the model's own folder and its lock


def test_model_whose_reload_failed_is_loaded_for_the_next_job(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = ModelIntegrationBridge(scratch=tmp_path / "scratch")
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))

    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as during:
        during.setattr("wan22_bridge.models.loaded.load_component", run_out)
        with pytest.raises(OutOfMemory):
            list(model.replan(replace(model.plan, quantization=Quantization.FP8)))
    assert not model.is_loaded

    assert finish(bridge.generate(model, PARAMS, tmp_path / "out")).video.exists()
    model.close()


def test_model_whose_reload_was_stopped_is_loaded_for_the_next_job(models_dir: Path, tmp_path: Path) -> None:
    bridge = limited(100 * 2**20, tmp_path)
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))
    tiled = replace(model.plan, quantization=Quantization.FP8)
    loading = model.replan(tiled)
    next(loading)
    loading.close()
    assert not model.is_loaded

    assert finish(bridge.generate(model, PARAMS, tmp_path / "out")).video.exists()
    assert model.is_loaded
    model.close()
