"""Estimates of the run time of jobs, from the run times of earlier jobs. Pure."""

import heapq
import statistics
from collections.abc import Iterable, Sequence

from wan22_bridge.experts import Expert
from wan22_bridge.types import GenerationParams

COUNTED_JOBS = 5
"""Number of the newest similar jobs that count. Older ones do not, because the machine may have changed."""


def estimate_seconds(params: GenerationParams, history: Sequence[tuple[GenerationParams, float]]) -> float | None:
    """Estimates the run time of a job in seconds, from the loaded model to the finished video.

    Args:
        params: the job's parameters.
        history: completed jobs, newest first, each with its run time in seconds.

    Returns:
        The estimate, or None if the history has no job of the same model.
    """
    same_model = [(before, seconds) for before, seconds in history if before.model == params.model]
    same_size = [(before, seconds) for before, seconds in same_model if _size(before) == _size(params)]
    similar = (same_size or same_model)[:COUNTED_JOBS]
    if not similar:
        return None
    # Scaling between sizes is only a guess, because attention grows faster than the size and all else slower.
    return statistics.median(seconds * _work(params) / _work(before) for before, seconds in similar)


def estimate_wait(ahead: Iterable[float], running: Sequence[float], workers: int) -> float:
    """Estimates the seconds until a new job starts, if each job goes to the first free worker.

    Args:
        ahead: Run times of the pending jobs before it, in their order.
        running: Remaining times of the running jobs.
        workers: Number of generators.
    """
    free_at = [*running, *[0.0] * (workers - len(running))] or [0.0]
    heapq.heapify(free_at)
    for seconds in ahead:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return free_at[0]


def _size(params: GenerationParams) -> tuple[int, int, int]:
    return params.width, params.height, params.num_frames


def _work(params: GenerationParams) -> float:
    """Returns the work of a job's denoising loop, in passes times pixels."""
    # As the denoising loop decides it. Experts that differ share the steps in unknown parts: half of them each.
    passes = 1 + sum(params.guidance_on(expert) is not None for expert in Expert) / len(Expert)
    step_frames = sum(part.steps_to_run * part.num_frames for part in params.parts)
    return float(passes * step_frames * params.width * params.height)
