"""Measurement of the growth of an expert's residuals from step to step, which MagCache needs for each model."""

from typing import Any

from diffusers import MagCacheConfig, WanTransformer3DModel
from diffusers.hooks import HookRegistry
from diffusers.hooks.mag_cache import _MAG_CACHE_BLOCK_HOOK


class MagnitudeMeter:
    """Measures an expert's residuals while the expert denoises, without changing the result."""

    def __init__(self, expert: WanTransformer3DModel, steps: int) -> None:
        """Starts to measure. `steps` is the maximum number of steps that the expert will run."""
        self._expert = expert
        # One step more than the run has, because after the last step diffusers prints the ratios and drops them.
        expert.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps + 1))

    def stop(self, context: str) -> list[float]:
        """Stops measuring and returns the ratios of the passes that ran in a cache context of diffusers."""
        tail: Any = HookRegistry.check_if_exists_or_initialize(self._expert.blocks[-1])
        states = tail.get_hook(_MAG_CACHE_BLOCK_HOOK).state_manager._state_cache
        ratios = [round(ratio, 5) for ratio in states[context].calibration_ratios] if context in states else []
        self._expert._reset_stateful_cache()
        self._expert.disable_cache()
        return ratios
