"""Defaults for the requests that don't say how their model is to be optimized."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wan22_bridge.options import QuantizationLevel
from wan22_bridge.types import GenerationParams

OPTIMIZATION_DEFAULTS = "optimization_defaults"
"""Name of the stored setting that holds the defaults."""
_PARAMETERS = {
    "quantization": "quantization_level",
    "enable_offload": "enable_offload",
    "vae_tile_size": "vae_tile_size",
    "max_vram_usage_gb": "max_vram_usage_gb",
}
"""Parameters of a video by the names of their defaults."""


def fill_defaults(params: GenerationParams, defaults: Mapping[str, Any]) -> GenerationParams:
    """Returns the parameters with the defaults for those that the request left open.

    Args:
        params: the parameters of a request.
        defaults: values by the names `quantization`, `enable_offload`, `vae_tile_size` and `max_vram_usage_gb`. A name
            that is missing or null has no default.
    """
    values = {_PARAMETERS[name]: value for name, value in defaults.items() if name in _PARAMETERS and value is not None}
    if "quantization_level" in values:
        values["quantization_level"] = QuantizationLevel(values["quantization_level"])
    left_open = (None, QuantizationLevel.AUTO)
    return replace(params, **{name: value for name, value in values.items() if getattr(params, name) in left_open})
