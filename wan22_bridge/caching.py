"""Step caches: what one denoising step computed stands in for what the next would. Faster, and not the same video."""

from collections.abc import Callable
from typing import Any

from diffusers import (
    FirstBlockCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    WanTransformer3DModel,
)

from wan22_bridge.types import StepCache

FIRST_BLOCK_THRESHOLD = 0.06
"""Change of the first block's residual below which the other blocks are skipped; at 0.09 Wan's videos fall apart."""
_TAYLOR_INTERVAL = 3
_TAYLOR_WARM_UP = 4
_BROADCAST_RANGE = 2
_BROADCAST_TIMESTEPS = (100, 950)


class StepCaching:
    """One run's cache, of both experts: it begins empty, and leaves nothing behind."""

    def __init__(self, kind: StepCache, current_timestep: Callable[[], float]) -> None:
        """`current_timestep` tells where the run is, in 0..1000."""
        self._kind = kind
        self._current_timestep = current_timestep
        self._on: list[WanTransformer3DModel] = []

    def use(self, expert: WanTransformer3DModel) -> None:
        """Turns the cache on for an expert that is about to work, unless it is."""
        if self._kind is StepCache.NONE or any(other is expert for other in self._on):
            return
        expert.enable_cache(self._config())
        self._on.append(expert)

    def stop(self) -> None:
        """Turns it off everywhere, and forgets what was kept."""
        for expert in self._on:
            expert._reset_stateful_cache()
            expert.disable_cache()
        self._on = []

    def _config(self) -> Any:
        if self._kind is StepCache.FIRST_BLOCK:
            return FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD)
        if self._kind is StepCache.TAYLORSEER:
            return TaylorSeerCacheConfig(
                cache_interval=_TAYLOR_INTERVAL,
                disable_cache_before_step=_TAYLOR_WARM_UP,
                # What diffusers looks for by default matches nothing in Wan's transformer.
                cache_identifiers=[r"blocks\.\d+\.attn[12]", r"blocks\.\d+\.ffn"],
            )
        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=_BROADCAST_RANGE,
            cross_attention_block_skip_range=_BROADCAST_RANGE + 1,
            spatial_attention_timestep_skip_range=_BROADCAST_TIMESTEPS,
            cross_attention_timestep_skip_range=_BROADCAST_TIMESTEPS,
            current_timestep_callback=self._current_timestep,
        )
