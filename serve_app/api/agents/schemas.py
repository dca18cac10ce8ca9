"""Results of the MCP server's tools."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from deployments.jobs.job import Job
from serve_app.api.schemas.links import to_datetime


class VideoJob(BaseModel):
    """A job that makes a video."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    video_id: str
    """Id of the job and of its video, which the other tools take."""
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    """The last three are final."""
    stage: str
    """Stage of a running job, such as `loading_model` or `generating`."""
    progress: float
    """Progress of the whole job in percent."""
    eta_seconds: float | None
    """Estimated time until the video is complete; null while it is not known."""
    queue_position: int | None
    """Position among the pending jobs, from 1; null if the job is not pending."""
    prompt: str
    model: str
    size: str
    """WIDTHxHEIGHT in pixels."""
    num_frames: int
    fps: float
    """Frames per second."""
    seed: int
    created_at: datetime
    error: str | None
    """Reason why the job failed."""
    suggestions: list[str]
    """Possible fixes for the error."""
    is_mock: bool
    """Whether the video is a placeholder that no model generated, because the service is in mock mode."""

    @classmethod
    def of(cls, job: Job, *, queue_position: int | None = None) -> "VideoJob":
        """Describes a job."""
        params = job.params
        return cls(
            video_id=job.id,
            status=job.state.value,
            stage=job.stage,
            progress=round(job.progress, 1),
            eta_seconds=job.eta_seconds,
            queue_position=queue_position,
            prompt=params.prompt,
            model=params.model,
            size=f"{params.width}x{params.height}",
            num_frames=params.num_frames,
            fps=params.fps,
            seed=params.seed,
            created_at=to_datetime(job.created_at),
            error=job.error["message"] if job.error else None,
            suggestions=job.error["suggestions"] if job.error else [],
            is_mock=params.is_mock,
        )


class VideoJobs(BaseModel):
    """A page of jobs, newest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    videos: list[VideoJob]
    has_more: bool
    """Whether older jobs follow. Pass the last `video_id` as `after` to read them."""


class VideoLink(BaseModel):
    """Addresses of a completed video's files."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    video_url: str
    """Address of the mp4."""
    download_url: str
    """Address of the mp4 as an attachment, which browsers save as a file."""
    thumbnail_url: str
    """Address of a WebP of the first frame."""
    last_frame_url: str
    """Address of a PNG of the last frame."""
    is_mock: bool
    """Whether the video is a placeholder that no model generated."""
