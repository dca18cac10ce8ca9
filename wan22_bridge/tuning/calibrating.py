"""One run of a model, watched: what MagCache needs to know of it."""

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
"""The pass with the prompt: the one without grows alike."""


def calibrate(model: LoadedModel, params: GenerationParams, inputs: Path) -> MagRatios:
    """Finds a model's ratios with one run, which should have the steps, the shift and the guidance that jobs will have.

    Raises:
        ConfigurationError: an expert is read anew for each of its steps, and can't be watched.
    """
    run = Denoising(model, params, prepare_conditioning(model, params, TextCache(), inputs))
    experts = {name: getattr(model.text, name) for name in Expert if name in model.components}
    if None in experts.values():
        raise ConfigurationError(
            "Calibrating needs the experts in memory, and here they are offloaded to the disk.",
            suggestions=["Calibrate on a machine with more memory, and copy mag_ratios.json from there."],
        )
    meters = {name: MagnitudeMeter(expert, params.steps) for name, expert in experts.items()}
    try:
        made = [step.expert for step in run.steps()]
    finally:
        ratios = {name: meter.stop(_CONTEXT) for name, meter in meters.items()}
    return {name: found for name, found in ratios.items() if name in made}
