"""Which job goes next. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployments.jobs.job import Job
from wan22_bridge.types import ModelType


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """How many jobs may run at once."""

    total: int
    by_type: Mapping[ModelType, int]


def choose_next(pending: Sequence[Job], running: Sequence[Job], slots: Slots) -> Job | None:
    """Picks the pending job to start now: the highest priority first, then the oldest, whose type has a free slot.

    Returns:
        The job, or None while nothing can start.
    """
    if len(running) >= slots.total:
        return None
    busy = Counter(job.params.model_type for job in running)
    free = [job for job in pending if busy[job.params.model_type] < slots.by_type.get(job.params.model_type, 0)]
    return min(free, key=lambda job: (-job.priority, job.number), default=None)
