"""Running the loop alone, and how alike two results are."""

from pathlib import Path

import torch

from wan22_bridge.conditioning import TextCache, prepare_conditioning
from wan22_bridge.denoising import Denoising
from wan22_bridge.model import LoadedModel
from wan22_bridge.trials import psnr
from wan22_bridge.types import GenerationParams

__all__ = ["denoise", "psnr"]


def denoise(model: LoadedModel, params: GenerationParams, inputs: Path = Path()) -> torch.Tensor:
    """The latents at the end of a run."""
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), inputs))
    for _ in run.steps():
        pass
    return run.latents_BCTHW
