"""Step caches: work skipped, likeness to the exact result, memory, and cleanup after a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from tests.unit.wan22_bridge.likeness import denoise, psnr
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.options import StepCache
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.estimates import add_run
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import RequestShape

pytestmark = pytest.mark.slow

PARAMS = make_params(steps=16, width=96, height=64)
CACHES = [kind for kind in StepCache if kind is not StepCache.NONE]
# A layer that each cache skips at some steps.
SKIPPED = {
    StepCache.FIRST_BLOCK: "blocks.1.ffn",
    StepCache.TAYLORSEER: "blocks.0.ffn.net.0",
    StepCache.MAGCACHE: "blocks.1.ffn",
    StepCache.PAB: "blocks.0.attn1.to_q",
}


@contextmanager
def counting(model: LoadedModel, layer: str) -> Iterator[list[int]]:
    """Counts the calls of a layer in both experts."""
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    experts = (model.text.transformer, model.text.transformer_2)
    hooks = [expert.get_submodule(layer).register_forward_hook(count) for expert in experts]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("kind", CACHES)
def test_a_step_cache_skips_work_and_changes_the_result_little(kind: StepCache, load_exact: LoadModel) -> None:
    model = load_exact("tiny-t2v")
    with counting(model, SKIPPED[kind]) as full:
        exact = denoise(model, PARAMS)
    with counting(model, SKIPPED[kind]) as cached:
        found = denoise(model, replace(PARAMS, step_cache=kind))

    assert cached[0] < full[0]
    assert psnr(found, exact) > 30


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.parametrize("model_id", ["tiny-i2v", "tiny-ti2v"])
def test_every_image_model_works_with_every_step_cache(
    kind: StepCache, model_id: str, load_exact: LoadModel, images: Path
) -> None:
    model = load_exact(model_id)
    params = replace(PARAMS, model=model_id, model_type=model.spec.type, image="first.png", steps=8)
    params = replace(params, guidance_scale_2=model.spec.guidance_scale_2)

    found = denoise(model, replace(params, step_cache=kind), images)

    # Skipped work changes much in a run of only eight steps. Two different seeds are 12 dB apart.
    assert psnr(found, denoise(model, params, images)) > 16


@pytest.mark.parametrize("kind", CACHES)
def test_batched_and_separate_guidance_passes_agree_under_a_step_cache(
    kind: StepCache, load_exact: LoadModel, models_dir: Path
) -> None:
    plan = replace(base_plan("cpu"), batched_guidance=True)
    batched = LoadedModel(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"), plan, exact=True)
    params = replace(PARAMS, step_cache=kind)

    # Results that leaked between the passes would differ much more. FIRST_BLOCK decides for a batch by both passes,
    # and TaylorSeer's extrapolation amplifies rounding.
    least = {StepCache.FIRST_BLOCK: 50, StepCache.TAYLORSEER: 50}.get(kind, 90)
    strong = replace(params, guidance_scale=12.0, guidance_scale_2=12.0)
    assert psnr(denoise(load_exact("tiny-t2v"), strong), denoise(batched, strong)) > least


@pytest.mark.parametrize("kind", CACHES)
def test_a_step_cache_holds_as_much_memory_as_planned(kind: StepCache, load_exact: LoadModel) -> None:
    model, params = load_exact("tiny-t2v"), replace(PARAMS, step_cache=kind)
    shape = RequestShape(width=params.width, height=params.height, num_frames=params.num_frames)
    meter = FootprintMeter(find_architecture(model.spec), "cpu", base_plan("cpu").dtypes)
    bare = meter.measure(shape)
    planned = add_run(bare, replace(shape, step_cache=kind)).cache_bytes
    if kind is StepCache.PAB:
        planned -= bare.denoise_bytes  # The plan counts the second pass, which runs in one batch.
    if kind is StepCache.TAYLORSEER:
        planned //= 2  # The plan assumes fp32 here, but TaylorSeer stores bf16.

    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), Path()))
    held = max(_held_by_hooks(model.text.transformer) for _ in run.steps())

    assert held == pytest.approx(planned, rel=0.01)


def _held_by_hooks(expert: torch.nn.Module) -> int:
    """Returns the bytes of the tensors that diffusers' hooks on an expert hold."""
    storages: dict[int, int] = {}
    visited: set[int] = set()

    def visit(value: Any) -> None:
        if id(value) in visited:
            return
        visited.add(id(value))
        if isinstance(value, torch.Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, dict):
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        elif type(value).__module__.startswith("diffusers.hooks") and hasattr(value, "__dict__"):
            visit(vars(value))

    for module in expert.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for hook in registry.hooks.values() if registry is not None else ():
            for name, value in vars(hook).items():
                if name.startswith("state"):
                    visit(value)
    return sum(storages.values())


@pytest.mark.parametrize("kind", CACHES)
def test_a_stopped_run_leaves_no_cached_results(kind: StepCache, load_exact: LoadModel) -> None:
    model, params = load_exact("tiny-t2v"), replace(PARAMS, step_cache=kind)
    exact, cached = denoise(model, PARAMS), denoise(model, params)
    steps = Denoising(model, params, prepare_conditioning(model, params, TextCache(), Path())).steps()
    for _ in range(7):
        next(steps)
    steps.close()

    assert not model.text.transformer.is_cache_enabled
    assert torch.equal(denoise(model, params), cached)
    assert torch.equal(denoise(model, PARAMS), exact)


def test_batched_guidance_equals_separate_passes_up_to_rounding(load_exact: LoadModel, models_dir: Path) -> None:
    plan = replace(base_plan("cpu"), batched_guidance=True)
    batched = LoadedModel(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"), plan, exact=True)

    with counting(batched, "patch_embedding") as calls:
        found = denoise(batched, PARAMS)

    assert calls == [PARAMS.steps]
    assert psnr(found, denoise(load_exact("tiny-t2v"), PARAMS)) > 100
    off = replace(PARAMS, guidance_scale=1.0, guidance_scale_2=1.0)
    assert torch.equal(denoise(batched, off), denoise(load_exact("tiny-t2v"), off))
