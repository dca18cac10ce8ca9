"""The choice of the running job that a job of higher priority preempts. Pure: no clock, no input, no output."""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_PREEMPTIONS = 3
"""A job that was put back into the queue this many times runs to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningJob:
    """A running job."""

    id: str
    priority: int
    ends_at: float | None
    """Expected end in seconds; None while it is unknown."""
    preemptions: int
    """Number of times that the job was put back into the queue without counting an attempt."""
    preemption_requested: bool
    """Whether the job has already been asked to give up its slot."""


def choose_job_to_preempt(
    priority: int, running: Sequence[RunningJob], now: float, patience_seconds: float
) -> str | None:
    """Chooses the job to preempt: of the lowest priority, the one that runs the longest.

    A preemption costs two more model loads. No job is therefore preempted while a slot is about to become free.

    Args:
        priority: the priority of the next job, for which no slot is free.
        running: all running jobs.
        now: the time in seconds.
        patience_seconds: a slot that becomes free within this time is worth waiting for.

    Returns:
        The id of the chosen job, or None if no preemption pays off.
    """
    if any(
        job.preemption_requested or (job.ends_at is not None and job.ends_at - now <= patience_seconds)
        for job in running
    ):
        return None
    candidates = [
        (job.priority, -job.ends_at, job.id)
        for job in running
        if job.priority < priority and job.ends_at is not None and job.preemptions < MAX_PREEMPTIONS
    ]
    return min(candidates)[2] if candidates else None
