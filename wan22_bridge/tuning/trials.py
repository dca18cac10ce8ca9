"""Trials of every plan and step cache on this machine: whether each works, its speed, its likeness to a baseline."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import Wan22Error
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.sidecars import find_ratios
from wan22_bridge.options import StepCache
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.decoding import decode_frames
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import Offload, OptimizationPlan, Quantization, Residence
from wan22_bridge.types import GenerationParams

_TILES = (256, 128, 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A plan and a step cache to run a model with."""

    name: str
    plan: OptimizationPlan
    step_cache: StepCache = StepCache.NONE


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Result of a trial. The measurements are NaN for a failed trial."""

    trial: Trial
    seconds_per_step: float = math.nan
    """Mean over the steps, without each expert's first step if other steps remain."""
    decode_seconds: float = math.nan
    peak_vram_bytes: int = 0
    """Peak of the GPU memory that PyTorch allocated; 0 on a CPU."""
    latents_psnr_db: float = math.nan
    """Likeness to the latents of the first trial, in decibels; infinite for the same bits."""
    frames_psnr_db: float = math.nan
    """Likeness to the frames of the first trial, in decibels; infinite for the same bits."""
    error: str = ""
    """Reason of the failure; empty for a trial that works."""


def list_trials(
    device: str, params: GenerationParams, *, in_gguf: bool = False, calibrated: bool = True
) -> list[Trial]:
    """Returns the plain plan first, as the baseline, then all other trials.

    Args:
        device: `cuda` or `cpu`.
        params: a text-to-video request.
        in_gguf: whether the experts are .gguf files, which exclude any other quantization.
        calibrated: whether the model has the ratios that MagCache needs.
    """
    tile = next((tile for tile in _TILES if tile < max(params.width, params.height)), _TILES[-1])
    plain = base_plan(device, Quantization.GGUF if in_gguf else Quantization.NONE)
    off = replace(plain, text_encoder=Residence.ON_DEMAND, vae=Residence.ON_DEMAND)
    plans = {
        "plain": plain,
        "text encoder and VAE on demand": off,
        "one expert at a time": replace(off, experts=Residence.ON_DEMAND),
        "blocks streamed": replace(off, experts=Residence.STREAMED),
        "layers streamed": replace(off, experts=Residence.SEQUENTIAL),
        "one expert at a time, from disk": replace(off, experts=Residence.ON_DEMAND, offload=Offload.DISK),
        "blocks streamed from disk": replace(off, experts=Residence.STREAMED, offload=Offload.DISK),
        f"decoded in tiles of {tile} px": replace(plain, vae_tile=tile),
        "batched guidance": replace(plain, batched_guidance=True),
        "compiled": replace(plain, compiled=True),
        "plain attention": replace(plain, attention_backend="_native_math"),
    }
    for kind in () if in_gguf else (Quantization.FP8, Quantization.INT8):
        plans[f"{kind} weights"] = replace(plain, quantization=kind)
        plans[f"{kind} blocks streamed"] = replace(off, quantization=kind, experts=Residence.STREAMED)
    if device == "cpu" or torch.cuda.device_count() > 1:
        plans["context parallel over 2"] = replace(plain, parallel_degree=2)
    left_out = {StepCache.NONE} if calibrated else {StepCache.NONE, StepCache.MAGCACHE}
    return [
        *(Trial(name=name, plan=plan) for name, plan in plans.items()),
        *(Trial(name=f"step cache {kind}", plan=plain, step_cache=kind) for kind in StepCache if kind not in left_out),
    ]


def run_trials(
    spec: ModelSpec, folder: Path, params: GenerationParams, scratch: Path, device: str
) -> Iterator[Outcome]:
    """Runs all trials one after the other. A failed trial yields an outcome with its error.

    Args:
        spec: the model's catalogue entry.
        folder: the model's files.
        params: a text-to-video request.
        scratch: a folder for weights that a plan offloads to the disk.
        device: `cuda` or `cpu`.

    Raises:
        ModelCorrupted: the folder contains no model.
    """
    reference: tuple[torch.Tensor, torch.Tensor] | None = None
    in_gguf = find_architecture(spec, folder).gguf_bytes is not None
    for trial in list_trials(device, params, in_gguf=in_gguf, calibrated=find_ratios(folder) is not None):
        try:
            outcome, latents, frames = _run(spec, folder, replace(params, step_cache=trial.step_cache), trial, scratch)
        except (Wan22Error, RuntimeError, ValueError) as exc:
            yield Outcome(trial=trial, error=f"{type(exc).__name__}: {str(exc).partition(chr(10))[0][:160]}")
            continue
        if reference is None:
            reference = latents, frames
        yield replace(
            outcome,
            latents_psnr_db=psnr(latents, reference[0]),
            frames_psnr_db=psnr(frames, reference[1]),
        )


def psnr(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Returns the peak signal-to-noise ratio in decibels, with the range of `exact` as the peak; infinite if equal."""
    error = float(((found - exact) ** 2).mean())
    return 10 * math.log10(float(exact.max() - exact.min()) ** 2 / error) if error else math.inf


def _run(
    spec: ModelSpec, folder: Path, params: GenerationParams, trial: Trial, scratch: Path
) -> tuple[Outcome, torch.Tensor, torch.Tensor]:
    on_gpu = trial.plan.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    model = LoadedModel(spec, folder, trial.plan, exact=True, scratch=scratch)
    try:
        run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), Path()))
        steps = list(run.steps())
        experts = [step.expert for step in steps]
        first = {experts.index(expert) for expert in experts}  # An expert loads or compiles at its first step.
        seconds = [step.seconds for step in steps if step.index not in first] or [step.seconds for step in steps]
        started = time.perf_counter()
        parts = list(decode_frames(model.bring("vae"), run.latents_BCTHW, trial.plan.vae_tile))
        decode_seconds = time.perf_counter() - started
        frames = torch.cat([torch.from_numpy(part).float() for part in parts if len(part)])
        outcome = Outcome(
            trial=trial,
            seconds_per_step=sum(seconds) / len(seconds),
            decode_seconds=decode_seconds,
            peak_vram_bytes=torch.cuda.max_memory_allocated() if on_gpu else 0,
        )
        return outcome, run.latents_BCTHW.cpu(), frames
    finally:
        model.close()
