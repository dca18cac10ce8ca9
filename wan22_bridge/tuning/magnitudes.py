"""Measures how much an expert's residuals grow from step to step: MagCache needs these ratios of each model."""

from typing import Any

from diffusers import MagCacheConfig, WanTransformer3DModel
from diffusers.hooks import HookRegistry
from diffusers.hooks.mag_cache import _MAG_CACHE_BLOCK_HOOK


class MagnitudeMeter:
    """Watches an expert's residuals while it denoises, and changes nothing."""

    def __init__(self, expert: WanTransformer3DModel, steps: int) -> None:
        """Begins with the expert's first step of a run in which it has so many."""
        self._expert = expert
        # One step more than there are: at its last one diffusers prints what it found, and forgets it.
        expert.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps + 1))

    def stop(self, context: str) -> list[float]:
        """Ends watching; gives the ratios of the passes that were made under a cache context."""
        tail: Any = HookRegistry.check_if_exists_or_initialize(self._expert.blocks[-1])
        states = tail.get_hook(_MAG_CACHE_BLOCK_HOOK).state_manager._state_cache
        ratios = [round(ratio, 5) for ratio in states[context].calibration_ratios] if context in states else []
        self._expert._reset_stateful_cache()
        self._expert.disable_cache()
        return ratios
