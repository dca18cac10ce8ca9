"""Running the loop alone, and how alike two results are."""

import math
from pathlib import Path

import torch

from wan22_bridge.conditioning import TextCache, prepare_conditioning
from wan22_bridge.denoising import Denoising
from wan22_bridge.model import LoadedModel
from wan22_bridge.types import GenerationParams


def denoise(model: LoadedModel, params: GenerationParams, inputs: Path = Path()) -> torch.Tensor:
    """The latents at the end of a run."""
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), inputs))
    for _ in run.steps():
        pass
    return run.latents_BCTHW


def psnr(found: torch.Tensor, exact: torch.Tensor) -> float:
    """In decibels, against the range of the exact one."""
    error = float(((found - exact) ** 2).mean())
    return 10 * math.log10(float(exact.max() - exact.min()) ** 2 / error) if error else math.inf
