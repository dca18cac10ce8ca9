"""Tests that need a CUDA GPU; run them with `make test-gpu`."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks.support.middle_models import HUNDRED_MILLION, make_middle_model
from tests.jobs import make_params
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import GenerationFailed
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.estimates import CUDA_CONTEXT_BYTES, estimate_memory
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import RequestShape
from wan22_bridge.tuning.trials import psnr, run_trials

pytestmark = pytest.mark.gpu

SPEC = load_catalogue()["tiny-t2v"]


def test_every_plan_and_step_cache_works_on_the_gpu(models_dir: Path, tmp_path: Path) -> None:
    folder = ensure_tiny_model(models_dir, "t2v")
    params = make_params(width=128, height=128, num_frames=9, steps=8)

    outcomes = list(run_trials(SPEC, folder, params, tmp_path, "cuda"))

    assert [outcome.error for outcome in outcomes] == [""] * len(outcomes)
    assert all(outcome.latents_psnr_db > 25 for outcome in outcomes)
    by_name = {outcome.trial.name: outcome for outcome in outcomes}
    assert by_name["blocks streamed"].peak_vram_bytes < by_name["plain"].peak_vram_bytes


def test_the_memory_estimate_of_denoising_is_near_the_measured_peak(tmp_path: Path) -> None:
    folder = make_middle_model("t2v", tmp_path / "model", HUNDRED_MILLION)
    params = make_params(width=512, height=512, num_frames=33, steps=2)
    plan = base_plan("cuda")
    shape = RequestShape(width=params.width, height=params.height, num_frames=params.num_frames)
    footprint = FootprintMeter(find_architecture(SPEC, folder), "cuda", plan.dtypes).measure(shape)
    estimated = estimate_memory(plan, footprint).stages["denoise"] - CUDA_CONTEXT_BYTES
    model = LoadedModel(SPEC, folder, plan)
    conditioning = prepare_conditioning(model, params, TextCache(), Path())
    torch.cuda.reset_peak_memory_stats()

    for _ in Denoising(model, params, conditioning).steps():
        pass

    assert estimated == pytest.approx(torch.cuda.max_memory_allocated(), rel=0.15)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_generate_what_one_gpu_generates(models_dir: Path) -> None:
    folder = ensure_tiny_model(models_dir, "t2v")
    params = make_params(width=256, height=256, num_frames=9, steps=8)

    def denoise(degree: int) -> torch.Tensor:
        model = LoadedModel(SPEC, folder, replace(base_plan("cuda"), parallel_degree=degree))
        run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), Path()))
        for _ in run.steps():
            pass
        model.close()
        return run.latents_BCTHW.cpu()

    assert psnr(denoise(2), denoise(1)) > 30


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_killed_rank_ends_the_run_in_the_middle_of_a_step(models_dir: Path) -> None:
    folder = ensure_tiny_model(models_dir, "t2v")
    params = make_params(width=256, height=256, num_frames=9, steps=8)
    model = LoadedModel(SPEC, folder, replace(base_plan("cuda"), parallel_degree=2))
    steps = Denoising(model, params, prepare_conditioning(model, params, TextCache(), Path())).steps()
    next(steps)
    [follower] = psutil.Process().children()
    follower.suspend()
    threading.Timer(1, follower.kill).start()

    with pytest.raises(GenerationFailed, match="ended by SIGKILL"):
        next(steps)
    started = time.monotonic()
    model.close()
    assert time.monotonic() - started < 30, "the communicator is aborted and waits for no rank"
