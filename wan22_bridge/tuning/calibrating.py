"""Calibration of a model for MagCache, by one measured run."""

from pathlib import Path

from wan22_bridge.errors import ConfigurationError
from wan22_bridge.experts import Expert
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.sidecars import MagRatios
from wan22_bridge.pipeline.conditioning import prepare_conditioning
from wan22_bridge.pipeline.denoising import Denoising
from wan22_bridge.pipeline.text_cache import TextCache
from wan22_bridge.tuning.magnitudes import MagnitudeMeter
from wan22_bridge.types import GenerationParams

_CONTEXT = "cond"
"""Cache context to measure: the pass with the prompt. The residuals of the other pass grow alike."""


def calibrate(model: LoadedModel, params: GenerationParams, inputs: Path) -> MagRatios:
    """Measures a model's magnitude ratios in one run.

    Args:
        model: the loaded model.
        params: a request with the steps, the flow shift and the guidance scale that later jobs will have.
        inputs: the folder that contains the request's input files.

    Returns:
        The ratios of each expert that took part, one for each of its steps.

    Raises:
        ConfigurationError: an expert is loaded again for each of its steps, so it cannot be measured.
    """
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), inputs))
    experts = {name: getattr(model.text, name) for name in Expert if name in model.components}
    if None in experts.values():
        raise ConfigurationError(
            "Calibration needs the experts in memory, but they are offloaded to the disk on this machine.",
            suggestions=["Calibrate on a machine with more memory, and copy mag_ratios.json from there."],
        )
    meters = {name: MagnitudeMeter(expert, params.steps) for name, expert in experts.items()}
    try:
        used = [step.expert for step in run.steps()]
    finally:
        ratios = {name: meter.stop(_CONTEXT) for name, meter in meters.items()}
    return {name: found for name, found in ratios.items() if name in used}
