"""Running the loop alone, and how alike two results are."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.options import SchedulerName
from wan22_bridge.pipeline.conditioning import TextCache, prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.tuning.trials import psnr
from wan22_bridge.types import GenerationParams

__all__ = ["denoise", "diffusers_scheduler", "psnr"]


def denoise(model: LoadedModel, params: GenerationParams, inputs: Path = Path()) -> torch.Tensor:
    """The latents at the end of a run."""
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), inputs))
    for _ in run.steps():
        pass
    return run.latents_BCTHW


def diffusers_scheduler(name: SchedulerName, flow_shift: float) -> Any:
    """A scheduler made by diffusers' own means, to compare with."""
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": flow_shift}
    return {
        SchedulerName.UNIPC: lambda: UniPCMultistepScheduler(**flow),
        SchedulerName.EULER: lambda: FlowMatchEulerDiscreteScheduler(shift=flow_shift),
        SchedulerName.DPMPP: lambda: DPMSolverMultistepScheduler(**flow),
    }[name]()
