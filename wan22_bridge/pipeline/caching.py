"""Step caches: reuse of one denoising step's results in the next steps. Faster, but the video changes a little."""

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
"""Change of the first block's residual below which the other blocks are skipped. At 0.09 Wan's videos fall apart."""
_TAYLOR_INTERVAL = 3
_TAYLOR_WARM_UP = 4
_MAG_THRESHOLD = 0.06
_MAG_MAX_SKIPPED = 3
_MAG_WARM_UP = 0.2
"""Share of an expert's steps, from its first step, that are never skipped."""
_BROADCAST_RANGE = 2
_BROADCAST_TIMESTEPS = (100, 950)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertRun:
    """One expert's part of a run."""

    total: int
    """Steps of the expert in the whole run."""
    done: int
    """Steps of the expert that are done already, for a run that resumes from a snapshot."""
    mag_ratios: Sequence[float] | None
    """Magnitude ratios of the expert, one for each step of the calibration run; None without a calibration."""


class StepCaching:
    """Step cache of one run. It holds results of the current expert only.

    Results of the previous expert are freed when the experts change, because no later step reuses them.
    """

    def __init__(self, kind: StepCache, current_timestep: Callable[[], float]) -> None:
        """Creates an empty cache.

        Args:
            kind: the method.
            current_timestep: returns the run's current timestep, in 0..1000.
        """
        self._kind = kind
        self._current_timestep = current_timestep
        self._cached_expert: weakref.ref[WanTransformer3DModel] | None = None
        """Weak, because an expert that is loaded again for each use must be freed before the other expert loads."""

    def use(self, expert: WanTransformer3DModel, describe_run: Callable[[], ExpertRun]) -> None:
        """Enables the cache on the expert that runs the next step, unless it is enabled there already.

        Raises:
            InvalidRequest: MagCache needs a calibration, and the model has none.
        """
        if self._kind is StepCache.NONE or (self._cached_expert is not None and self._cached_expert() is expert):
            return
        self.stop()
        expert.enable_cache(self._config(describe_run))
        self._cached_expert = weakref.ref(expert)

    def stop(self) -> None:
        """Disables the cache and frees its results."""
        expert = self._cached_expert() if self._cached_expert is not None else None
        if expert is not None:
            expert._reset_stateful_cache()
            expert.disable_cache()
        self._cached_expert = None

    def _config(self, describe_run: Callable[[], ExpertRun]) -> Any:
        if self._kind is StepCache.FIRST_BLOCK:
            return FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD)
        if self._kind is StepCache.TAYLORSEER:
            return TaylorSeerCacheConfig(
                cache_interval=_TAYLOR_INTERVAL,
                disable_cache_before_step=_TAYLOR_WARM_UP,
                # The default identifiers of diffusers match no layer of Wan's transformer.
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
    """Returns MagCache's configuration for the steps that are left.

    Raises:
        InvalidRequest: the model was not calibrated.
    """
    if run.mag_ratios is None:
        raise InvalidRequest(
            "The step cache magcache is not available: this model has not been calibrated.",
            code="mag_ratios_missing",
            param="step_cache",
            suggestions=["Ask the service's operator to run wan22 calibrate once.", "Use first_block."],
        )
    whole = MagCacheConfig(mag_ratios=list(run.mag_ratios), num_inference_steps=run.total)
    left = run.total - run.done
    warm_up = max(0, round(_MAG_WARM_UP * run.total) - run.done)
    return MagCacheConfig(
        threshold=_MAG_THRESHOLD,
        max_skip_steps=_MAG_MAX_SKIPPED,
        retention_ratio=warm_up / left,
        num_inference_steps=left,
        mag_ratios=whole.mag_ratios[run.done :],
    )
