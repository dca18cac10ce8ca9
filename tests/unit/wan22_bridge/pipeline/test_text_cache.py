"""Reuse of text projections across the steps of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.rungs import base_plan


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_text_is_projected_once_per_run_for_each_prompt_and_expert(
    guidance_scale: float, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model of its own, because a LoRA replaces modules until the next run without LoRAs.
    model = LoadedModel(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"), base_plan("cpu"))
    calls = list[str]()
    for expert in (model.text.transformer, model.text.transformer_2):
        for module in (expert.condition_embedder.text_embedder, expert.blocks[0].attn2.to_k):
            monkeypatch.setitem(vars(module), "forward", _counted(module.forward, calls))
    params = make_params(steps=6, guidance_scale=guidance_scale, guidance_scale_2=guidance_scale)
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), tmp_path))
    list(run.steps())
    assert len(calls) == 2 * 2 * (2 if guidance_scale > 1 else 1)


def _counted(forward: Callable[[torch.Tensor], torch.Tensor], calls: list[str]) -> Callable[..., torch.Tensor]:
    def count(given: torch.Tensor) -> torch.Tensor:
        calls.append("call")
        return forward(given)

    return count


def test_a_stopped_run_restores_the_text_modules(load: LoadModel, tmp_path: Path) -> None:
    model, params = load("tiny-t2v"), make_params(steps=6)
    steps = Denoising(model, params, prepare_conditioning(model, params, TextCache(), tmp_path)).steps()
    next(steps)
    to_k = model.text.transformer.blocks[0].attn2.to_k
    assert "forward" in vars(to_k)
    steps.close()
    assert "forward" not in vars(to_k)


def test_a_long_video_does_not_reuse_text_projections(load: LoadModel, tmp_path: Path) -> None:
    size: dict[str, Any] = {"width": 512, "height": 448, "num_frames": 17}
    model, params = load("tiny-t2v"), make_params(steps=1, guidance_scale=1.0, guidance_scale_2=1.0, **size)
    steps = Denoising(model, params, prepare_conditioning(model, params, TextCache(), tmp_path)).steps()
    next(steps)
    assert "forward" not in vars(model.text.transformer.blocks[0].attn2.to_k)
    steps.close()
