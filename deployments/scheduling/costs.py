"""How long jobs are thought to run: as long as those before them did. Pure."""

import statistics
from collections.abc import Sequence

from wan22_bridge.types import GenerationParams

LIKE = 5
"""Jobs that count, the newest ones: a machine may have become faster, or slower."""


def estimate_seconds(params: GenerationParams, history: Sequence[tuple[GenerationParams, float]]) -> float | None:
    """How long a job runs once its model is loaded; None where nothing is known of its model.

    Args:
        params: of the job.
        history: jobs that were completed, the newest first, each with the seconds that it ran.
    """
    same_model = [(before, seconds) for before, seconds in history if before.model == params.model]
    same_size = [(before, seconds) for before, seconds in same_model if _size(before) == _size(params)]
    like = (same_size or same_model)[:LIKE]
    if not like:
        return None
    # Attention grows faster than the size, the rest of a job slower: between sizes this is but a guess.
    return statistics.median(seconds * _work(params) / _work(before) for before, seconds in like)


def _size(params: GenerationParams) -> tuple[int, int, int]:
    return params.width, params.height, params.num_frames


def _work(params: GenerationParams) -> float:
    passes = 1 if params.guidance_scale == 1 else 2
    return float(passes * params.steps_to_run * params.width * params.height * params.num_frames)
