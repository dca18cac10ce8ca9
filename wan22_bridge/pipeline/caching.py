"""Step caches: what one denoising step computed stands in for what the next would. Faster, and not the same video."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers import (
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
    WanTransformer3DModel,
)

from wan22_bridge.errors import InvalidRequest
from wan22_bridge.options import StepCache

FIRST_BLOCK_THRESHOLD = 0.06
"""Change of the first block's residual below which the other blocks are skipped; at 0.09 Wan's videos fall apart."""
_TAYLOR_INTERVAL = 3
_TAYLOR_WARM_UP = 4
_MAG_THRESHOLD = 0.06
_MAG_MOST_SKIPPED = 3
_MAG_WARM_UP = 0.2
"""Of an expert's steps, that are never skipped."""
_BROADCAST_RANGE = 2
_BROADCAST_TIMESTEPS = (100, 950)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertRun:
    """One expert's part of a run."""

    total: int
    """Its steps in the whole run."""
    done: int
    """Those that were made before: a run that goes on from a snapshot begins in the middle."""
    mag_ratios: Sequence[float] | None
    """The model's own, as `magnitudes` has them; None where it has none."""


class StepCaching:
    """One run's cache, of the expert that works: it begins empty, and leaves nothing behind.

    Once the other expert works, what was kept of the first is of no use any more, and would only take memory.
    """

    def __init__(self, kind: StepCache, current_timestep: Callable[[], float]) -> None:
        """`current_timestep` tells where the run is, in 0..1000."""
        self._kind = kind
        self._current_timestep = current_timestep
        self._on: weakref.ref[WanTransformer3DModel] | None = None
        """Weakly: an expert that is read anew when it works must not stay in memory while the other one comes."""

    def use(self, expert: WanTransformer3DModel, describe_run: Callable[[], ExpertRun]) -> None:
        """Turns the cache on for an expert that is about to work, unless it is.

        Raises:
            InvalidRequest: the cache needs to know more of the model than is known.
        """
        if self._kind is StepCache.NONE or (self._on is not None and self._on() is expert):
            return
        self.stop()
        expert.enable_cache(self._config(describe_run))
        self._on = weakref.ref(expert)

    def stop(self) -> None:
        """Turns it off, and forgets what was kept."""
        expert = self._on() if self._on is not None else None
        if expert is not None:
            expert._reset_stateful_cache()
            expert.disable_cache()
        self._on = None

    def _config(self, describe_run: Callable[[], ExpertRun]) -> Any:
        if self._kind is StepCache.FIRST_BLOCK:
            return FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD)
        if self._kind is StepCache.TAYLORSEER:
            return TaylorSeerCacheConfig(
                cache_interval=_TAYLOR_INTERVAL,
                disable_cache_before_step=_TAYLOR_WARM_UP,
                # What diffusers looks for by default matches nothing in Wan's transformer.
                cache_identifiers=[r"blocks\.\d+\.attn[12]", r"blocks\.\d+\.ffn"],
            )
        if self._kind is StepCache.MAGCACHE:
            return _mag_config(describe_run())
        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=_BROADCAST_RANGE,
            cross_attention_block_skip_range=_BROADCAST_RANGE + 1,
            spatial_attention_timestep_skip_range=_BROADCAST_TIMESTEPS,
            cross_attention_timestep_skip_range=_BROADCAST_TIMESTEPS,
            current_timestep_callback=self._current_timestep,
        )


def _mag_config(run: ExpertRun) -> MagCacheConfig:
    if run.mag_ratios is None:
        raise InvalidRequest(
            "The step cache magcache can't be used: this model's magnitudes are not known.",
            code="mag_ratios_missing",
            param="step_cache",
            suggestions=["Have whoever runs the service call wan22 calibrate once.", "Use first_block."],
        )
    whole = MagCacheConfig(mag_ratios=list(run.mag_ratios), num_inference_steps=run.total)
    left = run.total - run.done
    warm_up = max(0, round(_MAG_WARM_UP * run.total) - run.done)
    return MagCacheConfig(
        threshold=_MAG_THRESHOLD,
        max_skip_steps=_MAG_MOST_SKIPPED,
        retention_ratio=warm_up / left,
        num_inference_steps=left,
        mag_ratios=whole.mag_ratios[run.done :],
    )
