"""Bodies of the native API's responses about jobs and the queue."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.jobs.job import Job, JobState, Priority
from deployments.jobs.queue import QueuePage
from serve_app.api.schemas.generation_options import OPTION_NAMES, reports_options
from serve_app.api.schemas.links import dropped_tokens, to_datetime, upload_id, video_url
from serve_app.api.schemas.submissions import LoraField, SegmentField

PRIORITY_NAMES: dict[Priority, Literal["low", "normal", "high"]] = {
    Priority.LOW: "low",
    Priority.NORMAL: "normal",
    Priority.HIGH: "high",
}
"""Names of the priorities in requests and responses."""


@reports_options
class TaskInfo(BaseModel):
    """A job of the native API."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    model_type: str
    model: str
    """The model's id."""
    prompt: str
    image_path: str | None
    """Id of the upload whose image, or whose last frame, begins the video."""
    end_image_path: str | None
    """Id of the upload that ends the video."""
    video_path: str | None
    """Id of the upload that is the input of video-to-video."""
    strength: float | None
    """Strength of video-to-video: the share of the denoising steps that are run. Null without an input video."""
    source_task_id: str | None
    """Id of the job whose video or parameters this job uses. That job may have been deleted."""
    batch_id: str | None
    """Id of the batch, if the job's request made several jobs."""
    owner: str | None
    """Owner of the API key that submitted the job; null for a job without a key."""
    resolution: str
    """WIDTHxHEIGHT in pixels."""
    lora_path: str | None
    """Name of the first LoRA."""
    lora_strength: float
    """Strength of the first LoRA on the high-noise expert, or on a model's only expert."""
    loras: list[LoraField]
    """All LoRAs, each with its strengths."""
    segments: list[SegmentField]
    """Parts of a long video, with their frames and seeds. `current_step` and `total_steps` count over all parts."""
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    stage: str
    """Stage of a running job, such as `loading_model` or `generating`; else the same as `status`, or `queued`."""
    progress: float
    """Progress of the whole job in percent."""
    current_step: int
    """Number of denoising steps that are done."""
    total_steps: int
    """Number of denoising steps that the job runs."""
    segment: int | None
    """Number of the segment that is being generated, from 1. Null while none is."""
    total_segments: int | None
    """Number of segments of a long video. Null for other videos."""
    eta_seconds: float | None
    """Estimated time until the video is complete."""
    estimated_time_minutes: float | None
    """The same estimate as `eta_seconds`, in minutes."""
    priority: Literal["low", "normal", "high"]
    """Jobs of a higher priority run first."""
    queue_position: int | None
    """Position among the pending jobs, from 1; null if the job is not pending."""
    cancel_requested: bool
    """Whether a client has asked to cancel the job."""
    attempt: int
    """Number of times the job was started, not counting those that a shutdown interrupted. It goes on counting, while
    `max_attempts` limits the failed attempts without progress."""
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    output_path: str | None
    """URL path of the mp4, once the job is completed."""
    error_message: str | None
    """Message of the error with which the job failed."""
    error: dict[str, Any] | None
    """Error with which the job failed, as in the body of an error response."""
    result: dict[str, Any] | None
    """Measurements of a completed job, such as the time and the GPU memory that it needed."""
    prompt_tokens_dropped: int | None
    """Tokens of the prompt beyond the model's limit of 512, which the model does not see. Null if unknown."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    metadata: dict[str, str]
    """The client's own key-value pairs, as it sent them."""
    is_mock: bool
    """Whether the video is a placeholder that no model generates, and that says so in its picture."""
    mock_reason: str | None
    """Error because of which a placeholder took the video's place. Null if the service was in mock mode."""

    @classmethod
    def of(cls, job: Job, *, queue_position: int | None = None) -> "TaskInfo":
        """Describes a job."""
        params = job.params
        options = {name: getattr(params, name) for name in OPTION_NAMES}
        options["strength"] = params.strength if params.video else None
        result = None
        if job.result is not None:
            result = {"task_id": job.id, "output_path": video_url(job.id), "is_mock": params.is_mock} | job.result
        return cls(
            id=job.id,
            model_type=params.model_type.value,
            model=params.model,
            prompt=params.prompt,
            image_path=upload_id(params.image) if params.image else None,
            end_image_path=upload_id(params.end_image) if params.end_image else None,
            video_path=upload_id(params.video) if params.video else None,
            source_task_id=job.source_job_id,
            batch_id=job.batch_id,
            owner=job.owner or None,
            resolution=f"{params.width}x{params.height}",
            lora_path=params.loras[0].name if params.loras else None,
            lora_strength=params.loras[0].high_noise_strength if params.loras else 1.0,
            loras=[LoraField.of(use) for use in params.loras],
            segments=[SegmentField(**asdict(segment)) for segment in params.segments],
            status=job.state.value,
            stage=job.stage,
            progress=job.progress,
            current_step=job.current_step,
            total_steps=job.total_steps,
            segment=job.segment,
            total_segments=len(params.segments) or None,
            eta_seconds=job.eta_seconds,
            estimated_time_minutes=None if job.eta_seconds is None else round(job.eta_seconds / 60, 3),
            priority=PRIORITY_NAMES[job.priority],
            queue_position=queue_position,
            cancel_requested=job.cancel_requested,
            attempt=job.attempt,
            created_at=to_datetime(job.created_at),
            started_at=None if job.started_at is None else to_datetime(job.started_at),
            completed_at=None if job.completed_at is None else to_datetime(job.completed_at),
            output_path=video_url(job.id) if job.state is JobState.COMPLETED else None,
            error_message=job.error["message"] if job.error else None,
            error=job.error,
            result=result,
            prompt_tokens_dropped=dropped_tokens(job),
            width=params.width,
            height=params.height,
            metadata=job.metadata,
            is_mock=params.is_mock,
            mock_reason=params.mock_reason,
            **options,
        )


class QueueAnswer(BaseModel):
    """Number of jobs in each state, and a page of jobs, newest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    total_tasks: int
    pending_tasks: int
    processing_tasks: int
    completed_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    paused: bool
    """Whether the queue is paused, so that no job begins."""
    current_task: TaskInfo | None
    """The running job that was submitted first."""
    tasks: list[TaskInfo]
    queue: list[TaskInfo]
    """The same list as `tasks`, for older clients."""

    @classmethod
    def of(cls, page: QueuePage) -> "QueueAnswer":
        """Describes a page of the queue."""
        counts, tasks = page.counts, _describe_page(page)
        return cls(
            total_tasks=sum(counts.values()),
            pending_tasks=counts[JobState.PENDING],
            processing_tasks=counts[JobState.PROCESSING],
            completed_tasks=counts[JobState.COMPLETED],
            failed_tasks=counts[JobState.FAILED],
            cancelled_tasks=counts[JobState.CANCELLED],
            paused=page.paused,
            current_task=None if page.current is None else TaskInfo.of(page.current),
            tasks=tasks,
            queue=tasks,
        )


class PollAnswer(BaseModel):
    """Number of active jobs, and the jobs."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    pending_tasks: int
    processing_tasks: int
    paused: bool
    """Whether the queue is paused, so that no job begins."""
    tasks: list[TaskInfo]
    timestamp: datetime
    """Time at which the jobs were read."""

    @classmethod
    def of(cls, page: QueuePage, *, timestamp: float) -> "PollAnswer":
        """Describes a page of the queue that was read at a time in seconds since the epoch."""
        return cls(
            pending_tasks=page.counts[JobState.PENDING],
            processing_tasks=page.counts[JobState.PROCESSING],
            paused=page.paused,
            tasks=_describe_page(page),
            timestamp=to_datetime(timestamp),
        )


class ClearAnswer(BaseModel):
    """Confirmation that the ended jobs were removed from the queue's listings."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    message: str
    cleared: int
    """Number of removed jobs."""


class PauseAnswer(BaseModel):
    """State of the queue after it was paused or resumed."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    paused: bool
    """Whether the queue is paused, so that no job begins."""


class ReorderRequest(BaseModel):
    """A new order of pending jobs."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    task_ids: list[str] = Field(min_length=1, max_length=1000)
    """Ids of pending jobs, in their new order. Ids of other jobs are ignored."""


class Message(BaseModel):
    """Confirmation of a request."""

    message: str


def _describe_page(page: QueuePage) -> list[TaskInfo]:
    return [TaskInfo.of(job, queue_position=page.positions.get(job.id)) for job in page.jobs]
