"""Bodies of the OpenAI-compatible API's responses."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from deployments.jobs.job import Job, JobState
from serve_app.api.schemas.links import dropped_tokens
from serve_app.api.schemas.texts import WEBHOOK_URL, Prompt

_STATUS = {
    JobState.PENDING: "queued",
    JobState.PROCESSING: "in_progress",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
}


def _is_none(value: object) -> bool:
    return value is None


class VideoError(BaseModel):
    """Reason why a job has no video."""

    code: str
    message: str


class Video(BaseModel):
    """A job of the OpenAI-compatible API."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    """Status of the job; a cancelled job is `failed`, with the error code `cancelled`."""
    progress: int
    """Progress of the whole job in percent."""
    created_at: int
    """Seconds since the epoch."""
    completed_at: int | None
    """Seconds since the epoch."""
    expires_at: int | None = None
    """Always null: videos do not expire."""
    prompt: str
    remixed_from_video_id: str | None
    """Id of the job whose video this job edits or extends, or whose parameters it uses."""
    seconds: str
    """Length of the video."""
    size: str
    """WIDTHxHEIGHT in pixels."""
    error: VideoError | None
    prompt_tokens_dropped: int | None
    """Tokens of the prompt beyond the model's limit of 512, which the model does not see. Null if unknown."""
    peak_memory_mb: float
    """Peak GPU memory of a completed job, in megabytes of 10^6 bytes; 0 before that, and on a CPU."""
    stage_durations: dict[str, float]
    """Seconds of each stage of a completed job."""
    inference_time_s: float | None
    """Seconds in which a completed job was generated, without waiting in the queue."""
    is_mock: bool
    """Whether the video is a placeholder that no model generates, and that says so in its picture."""
    batch_id: str | None = Field(default=None, exclude_if=_is_none)
    """Id of the batch, if the job's request made several jobs. Left out for other jobs."""

    @classmethod
    def of(cls, job: Job, **further: Any) -> Self:
        """Describes a job.

        Args:
            job: the job.
            **further: fields that a subclass adds.
        """
        params, result, error = job.params, job.result or {}, None
        if job.state is JobState.CANCELLED:
            error = VideoError(code="cancelled", message="The job was cancelled.")
        elif job.error is not None:
            error = VideoError(code=job.error["code"], message=job.error["message"])
        return cls.model_validate(
            {
                "id": job.id,
                "model": params.model,
                "status": _STATUS[job.state],
                "progress": 0 if job.state is JobState.PENDING else int(job.progress),
                "created_at": int(job.created_at),
                "completed_at": int(job.completed_at) if job.state is JobState.COMPLETED and job.completed_at else None,
                "prompt": params.prompt,
                "remixed_from_video_id": job.source_job_id,
                "seconds": f"{round((params.num_frames - 1) / params.fps, 3):g}",
                "size": f"{params.width}x{params.height}",
                "error": error,
                "prompt_tokens_dropped": dropped_tokens(job),
                "peak_memory_mb": result.get("peak_vram_usage_mb", 0.0),
                "stage_durations": result.get("timings", {}),
                "inference_time_s": result.get("generation_time_seconds"),
                "is_mock": params.is_mock,
                "batch_id": job.batch_id,
                **further,
            }
        )


class NewVideo(Video):
    """A job that was just submitted. If the request made several jobs, this is the first of them."""

    video_ids: list[str] | None = Field(default=None, exclude_if=_is_none)
    """Ids of all jobs of the batch, in the order of their seeds. Left out if the request made one job."""


class VideoList(BaseModel):
    """A page of jobs."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    """Id of the page's first job; null if the page is empty."""
    last_id: str | None
    """Id of the page's last job, which `after` takes to read the next page; null if the page is empty."""
    has_more: bool
    """Whether more jobs follow after this page."""


class VideoDeleted(BaseModel):
    """Confirmation that a job and its video were deleted."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class Remix(BaseModel):
    """A new prompt for a completed video."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt: Prompt
    """Text that describes the video, 1 to 2000 characters."""
    webhook_url: str | None = WEBHOOK_URL
    """Receiver of a signed POST request at the end of the job, as for a new video."""
