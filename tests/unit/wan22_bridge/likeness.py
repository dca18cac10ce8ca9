"""The denoising loop without the bridge, and the likeness of two results."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.options import SchedulerName
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.tuning.trials import psnr
from wan22_bridge.types import GenerationParams

__all__ = ["denoise", "diffusers_scheduler", "psnr"]


def denoise(model: LoadedModel, params: GenerationParams, inputs: Path = Path()) -> torch.Tensor:
    """Runs the denoising loop and returns the final latents."""
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), inputs))
    for _ in run.steps():
        pass
    return run.latents_BCTHW


def diffusers_scheduler(name: SchedulerName, flow_shift: float) -> Any:
    """Returns a sampler of diffusers to compare with, made without the code under test."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": flow_shift}
    return {
        SchedulerName.UNIPC: lambda: UniPCMultistepScheduler(**flow),
        SchedulerName.EULER: lambda: FlowMatchEulerDiscreteScheduler(shift=flow_shift),
        SchedulerName.DPMPP: lambda: DPMSolverMultistepScheduler(**flow),
    }[name]()
