"""What a job is."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from wan22_bridge.errors import Conflict, NotFound
from wan22_bridge.types import GenerationParams


class JobState(StrEnum):
    """Where a job stands in its life."""

    PENDING = "pending"
    """Waits for a generator."""
    PROCESSING = "processing"
    """Claimed: a dispatcher holds its lease."""
    COMPLETED = "completed"
    """Its video is there."""
    FAILED = "failed"
    """Ended with an error."""
    CANCELLED = "cancelled"
    """Ended because someone asked for it."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class ClaimState(StrEnum):
    """What became of one claim of a job."""

    HELD = "held"
    """It runs the job."""
    YIELDING = "yielding"
    """It runs the job, and is to stop: the job goes on elsewhere, or later, from what the claim keeps."""
    GIVEN_BACK = "given_back"
    """The job waits again, and nobody else has claimed it yet: what the claim has done so far is of use."""
    LOST = "lost"
    """The job was cancelled, deleted, or claimed by another."""


class Priority(IntEnum):
    """The higher one goes first."""

    LOW = -1
    NORMAL = 0
    HIGH = 1


JOB_ID_PREFIX = "video_"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """A job to be stored."""

    params: GenerationParams
    priority: Priority = Priority.NORMAL
    metadata: dict[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    request_hash: str = ""
    """Of the whole request: an idempotency key comes with one request only."""
    source_job_id: str | None = None
    """The job whose video, or whose parameters, this one is made from."""
    owner: str = ""
    """Whose it is: owners get equal shares."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A stored job. Times are seconds since the epoch."""

    number: int
    """Counts up with each submission: the order of the queue and of listings."""
    id: str
    state: JobState
    params: GenerationParams
    priority: Priority
    metadata: dict[str, str]
    source_job_id: str | None
    """The job whose video, or whose parameters, this one is made from; it may be gone."""
    owner: str
    rank: int
    """Its place among the pending jobs: its number, or that of the one in whose place a user put it."""
    attempt: int
    """How often it was begun, not counting those that a shutdown broke off."""
    fencing_token: int
    """Rises with every claim; a writer with an older one is refused."""
    lease_expires_at: float | None
    cancel_requested: bool
    yield_token: int | None
    """The fencing token of the claim that was asked to give up its slot, if any was."""
    stage: str
    progress: float
    """Percent."""
    current_step: int
    total_steps: int
    eta_seconds: float | None
    created_at: float
    started_at: float | None
    completed_at: float | None
    output: dict[str, Any] | None
    """Where its files lie in the storage, once completed."""
    result: dict[str, Any] | None
    error: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to a job; `sequence` orders all events and lets a stream resume."""

    sequence: int
    job_id: str
    type: str
    data: dict[str, Any]
    created_at: float


class JobNotFound(NotFound):
    """There is no such job."""

    default_code = "job_not_found"


class JobEnded(Conflict):
    """The job is already over."""

    default_code = "job_ended"


class IdempotencyConflict(Conflict):
    """The idempotency key was used with another request."""

    default_code = "idempotency_key_reused"


class LeaseLost(Conflict):
    """Another claim of the job, or its end, has overtaken this one."""

    default_code = "lease_lost"
