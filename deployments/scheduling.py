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


def types_with_room(running: Sequence[Job], slots: Slots) -> set[ModelType]:
    """The model types that could start another job now."""
    if len(running) >= slots.total:
        return set()
    busy = Counter(job.params.model_type for job in running)
    return {model_type for model_type, count in slots.by_type.items() if busy[model_type] < count}


def choose_next(pending: Sequence[Job]) -> Job | None:
    """Picks the job to start among those that could: the highest priority first, then the oldest."""
    return min(pending, key=lambda job: (-job.priority, job.number), default=None)
