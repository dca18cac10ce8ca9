"""The value types of the job queue: jobs, their states, claims and events, and the errors of the store."""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from wan22_bridge.errors import Conflict, NotFound
from wan22_bridge.types import SEGMENTS_PERCENT, GenerationParams, Stage


class JobState(StrEnum):
    """The state of a job. The store holds the values, and the API shows them."""

    PENDING = "pending"
    """The job waits for a generator."""
    PROCESSING = "processing"
    """A dispatcher has claimed the job and holds its lease."""
    COMPLETED = "completed"
    """The job ended, and its video is in the storage."""
    FAILED = "failed"
    """The job ended with an error."""
    CANCELLED = "cancelled"
    """A client ended the job."""

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class ClaimState(StrEnum):
    """The state of one claim of a job, which the generator polls while it works."""

    HELD = "held"
    """The claim holds the job."""
    PREEMPTED = "preempted"
    """The claim still holds the job but must give up its slot. The job resumes later from the claim's snapshot."""
    GIVEN_BACK = "given_back"
    """The job is pending again and nobody else has claimed it yet. The next claim resumes from the snapshot."""
    LOST = "lost"
    """The job was cancelled, deleted or claimed again. The claim's work is worthless."""


class Priority(IntEnum):
    """The priority of a job. A higher one is scheduled first."""

    LOW = -1
    NORMAL = 0
    HIGH = 1


MOCK_MODEL = "<mock>"
"""Name under which the scheduler and the metrics know the mock jobs of all models, which need no model and no slot."""


def scheduled_model(params: GenerationParams) -> str:
    """Returns the name under which a job is scheduled and counted: its model's id, or `MOCK_MODEL`."""
    return MOCK_MODEL if params.is_mock else params.model


JOB_ID_PREFIX = "video_"
"""The beginning of every job id, which distinguishes it from an upload id."""
BATCH_ID_PREFIX = "batch_"
"""The beginning of every batch id."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewJob:
    """A job that is not stored yet."""

    params: GenerationParams
    priority: Priority = Priority.NORMAL
    metadata: dict[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    request_hash: str = ""
    """Hash of the whole request. An idempotency key may be used again only with an equal hash."""
    source_job_id: str | None = None
    """Id of the job whose video or parameters this job reuses."""
    owner: str = ""
    """Name of the job's owner. The scheduler gives all owners equal shares."""
    client: str = ""
    """Client to whom the job is charged; empty for its owner. See `deployments.jobs.limits`."""
    webhook_url: str | None = None
    """Receiver of a webhook at the job's end."""


_SEGMENT_STAGES = (Stage.PREPARING_INPUTS, Stage.GENERATING, Stage.POST_PROCESSING, Stage.SAVING)
"""Stages of each segment of a long video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A stored job. Times are seconds since the epoch."""

    number: int
    """Serial number of the submission. It orders the queue and the listings."""
    id: str
    state: JobState
    params: GenerationParams
    priority: Priority
    metadata: dict[str, str]
    source_job_id: str | None
    """Id of the job whose video or parameters this job reuses. That job may have been deleted."""
    webhook_url: str | None
    """Receiver of a webhook at the job's end. Responses leave it out, because it may hold a token."""
    batch_id: str | None
    """Id that the jobs of one request share; None if the request made one job."""
    owner: str
    queue_order: int
    """Place among the pending jobs: the job's own number, or the number whose place a user gave it."""
    attempt: int
    """Number of claims so far, without those that a shutdown or a preemption ended."""
    saved_steps: int
    """Largest number of steps in a snapshot of any attempt; a complete segment counts as a snapshot after its last
    step."""
    progress_attempt: int
    """Number of the attempt that last stored such a snapshot; 0 if none has."""
    stalled_attempts: int
    """Failed attempts since then; see `deployments.jobs.attempts`."""
    fencing_token: int
    """Number of claims so far. The store rejects writes with an older token."""
    lease_expires_at: float | None
    cancel_requested: bool
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
    """Storage key of the output folder and the names of the files in it; None before completion."""
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    favorite: bool
    tags: list[str]
    deletion_due_at: float | None
    """Time after which the service deletes the video. Until then, the deletion can be undone."""

    @property
    def segment(self) -> int | None:
        """Number of the running segment of a long video, from 1; None while none runs."""
        if self.state is not JobState.PROCESSING or self.stage not in _SEGMENT_STAGES or self.params.is_mock:
            return None
        # The progress is rounded to hundredths: half of one more finds the segment that has just begun.
        done = int((self.progress + 0.005) / SEGMENTS_PERCENT * len(self.params.segments))
        return done + 1 if done < len(self.params.segments) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """An entry of the event log: a change of one job."""

    sequence: int
    """Position in the log over all jobs. A stream resumes after the last sequence number that its client saw."""
    job_id: str
    type: str
    data: dict[str, Any]
    created_at: float

    @property
    def owner(self) -> str | None:
        """Owner of the job or of the changed jobs; None for a change that all owners may see."""
        owner: str | None = self.data.get("owner", "" if self.job_id else None)  # older events lack it
        return owner


class JobNotFound(NotFound):
    """There is no such job."""

    default_code = "job_not_found"


class BatchNotFound(NotFound):
    """There is no such batch."""

    default_code = "batch_not_found"


class BatchEnded(Conflict):
    """All jobs of the batch have already ended."""

    default_code = "batch_ended"


class JobEnded(Conflict):
    """The job has already ended."""

    default_code = "job_ended"


class JobRunning(Conflict):
    """The job is running."""

    default_code = "job_running"


class JobNotRetryable(Conflict):
    """Only a failed or cancelled job can be retried."""

    default_code = "job_not_retryable"


class IdempotencyConflict(Conflict):
    """The idempotency key was already used with another request."""

    default_code = "idempotency_key_reused"


class LeaseLost(Conflict):
    """The claim no longer holds the job: another claim or the job's end has replaced it."""

    default_code = "lease_lost"
