"""Which running job gives its slot to one of a higher priority. Pure: no clock, nothing read, nothing written."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_TIMES = 3
"""So often at the most a job is asked to give up its slot: then it runs to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A running job."""

    id: str
    priority: int
    ends_at: float | None
    """When it is thought to end, in seconds; None while that is not known."""
    given_back: int
    """How often it has gone back into the queue."""
    asked: bool
    """Whether it has been asked already."""


def choose_to_yield(priority: int, running: Sequence[Running], now: float, patience_seconds: float) -> str | None:
    """The job that is to be kept and put back into the queue; None where nothing is won by it.

    It costs what is loaded twice, so that a slot which is soon free is waited for.

    Args:
        priority: of the job that goes next, for which no slot is free.
        running: all jobs that run.
        now: the time, in seconds.
        patience_seconds: a slot that is free within that time is soon free.
    """
    if any(job.asked or (job.ends_at is not None and job.ends_at - now <= patience_seconds) for job in running):
        return None
    found = [
        (job.priority, -job.ends_at, job.id)
        for job in running
        if job.priority < priority and job.ends_at is not None and job.given_back < MOST_TIMES
    ]
    return min(found)[2] if found else None
