"""Attempts without progress: which interruptions count against a job, and how many of them end it.

An attempt makes progress if it stores a snapshot, or completes a segment, beyond all earlier attempts. Progress resets
both counts. The number of steps is finite, so every job ends.
"""

from enum import Enum, auto
from typing import Any

from deployments.jobs.job import Job
from wan22_bridge.errors import GenerationFailed, NotReady, Wan22Error
from wan22_bridge.types import Stage

INTERRUPTIONS_PER_ATTEMPT = 5
"""A job fails after this many times `max_attempts` interruptions of any kind without progress.

It bounds the interruptions that are probably not the job's fault: the process dies while the model is loaded, or the
dispatcher or the machine stops. A spot machine rarely stops so often before the first snapshot. Without a bound, a
model too large for the memory would be loaded for ever, and a job that crashes its machine would crash it for ever."""

_BEFORE_COMPUTATION = ("queued", Stage.DOWNLOADING_MODEL.value, Stage.LOADING_MODEL.value)


class Interruption(Enum):
    """The reason why an attempt ended without a result."""

    PROCESS_DIED = auto()
    """The generator's process died. This counts as a failed attempt if the job's computation had begun."""
    NOT_BEGUN = auto()
    """No generator began the job in time. This counts as a failed attempt, because the time limit is long already."""
    DISK_FULL = auto()
    """A file of the job could not be written, because the disk was full. This counts as a failed attempt."""
    LEASE_EXPIRED = auto()
    """The dispatcher died, perhaps with the whole machine. This does not count as a failed attempt."""


def count_stalled(job: Job, how: Interruption) -> int:
    """Returns the failed attempts without progress, with the attempt that ends now."""
    if job.attempt <= job.progress_attempt:
        return 0
    began = how is Interruption.PROCESS_DIED and job.stage not in _BEFORE_COMPUTATION
    counts = began or how in (Interruption.NOT_BEGUN, Interruption.DISK_FULL)
    return job.stalled_attempts + (1 if counts else 0)


def find_error(job: Job, how: Interruption, max_attempts: int) -> dict[str, Any] | None:
    """Returns the error of a job that is interrupted once too often, or None if the job gets another attempt.

    Args:
        job: the running job, before the interruption.
        how: the reason of the interruption.
        max_attempts: number of failed attempts without progress after which the job fails.
    """
    stalled, interruptions = count_stalled(job, how), job.attempt - job.progress_attempt
    if stalled >= max_attempts:
        return _describe_stall(job, how, stalled).to_dict()
    if interruptions >= INTERRUPTIONS_PER_ATTEMPT * max_attempts:
        return _describe_interruptions(job, interruptions).to_dict()
    return None


def _describe_stall(job: Job, how: Interruption, stalled: int) -> Wan22Error:
    if how is Interruption.NOT_BEGUN:
        return NotReady(
            "No generator began the job in time.",
            code="generator_unavailable",
            suggestions=[
                "Make sure that a GPU is free for the model, or wait until another model's replica has stopped."
            ],
        )
    reached = f" The last attempt reached step {job.current_step} of {job.total_steps} in the stage {job.stage}."
    return GenerationFailed(
        f"{_count(stalled, 'attempt')} failed without progress, because the process that ran the job died: "
        f"{_snapshots(job)}.{reached}",
        code="interrupted",
        suggestions=[
            "Lower the resolution or the number of frames, because the process may have run out of memory.",
            "If machines stop often, lower the setting generator.checkpoint_interval_seconds.",
        ],
        can_retry=True,
    )


def _describe_interruptions(job: Job, interruptions: int) -> Wan22Error:
    return GenerationFailed(
        f"The job was interrupted {interruptions} times without progress, mostly before its computation began or "
        f"together with the dispatcher: {_snapshots(job)}.",
        code="interrupted",
        suggestions=["Make sure that the machine is stable and has enough memory to load the model."],
        can_retry=True,
    )


def _snapshots(job: Job) -> str:
    return f"none stored a snapshot after step {job.saved_steps}" if job.saved_steps else "none stored a snapshot"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
