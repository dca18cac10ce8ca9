"""Bodies of the native API's responses about completed videos."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from deployments.jobs.job import Job
from serve_app.api.schemas.links import filename, thumbnail_url, to_datetime, video_url
from wan22_bridge.options import WholeAsInt


class OutputLink(BaseModel):
    """A signed link to a file of a video."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    url: str
    """Address of the file, which needs no key. Everyone who has it can read the file."""
    expires_at: datetime


class VideoMetadata(BaseModel):
    """A completed video."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    """Id of the video and of its job."""
    filename: str
    """File name under which the video is downloaded."""
    file_path: str
    """URL path of the mp4."""
    thumbnail_path: str
    """URL path of the thumbnail."""
    prompt: str
    model_type: str
    resolution: str
    """WIDTHxHEIGHT in pixels."""
    duration_seconds: float
    file_size_mb: float
    """Size of the mp4 in megabytes of 10^6 bytes."""
    created_at: datetime
    """Time at which the job was completed."""
    generation_time_minutes: float
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fps: Annotated[float, WholeAsInt()]
    num_frames: int
    seed: int
    parameters: dict[str, Any]
    """All parameters with which the video was generated."""
    is_mock: bool
    """Whether the video is a placeholder that no model generated."""

    @classmethod
    def of(cls, job: Job) -> "VideoMetadata":
        """Describes the video of a completed job."""
        params = job.params
        assert job.output is not None
        assert job.result is not None
        return cls(
            id=job.id,
            filename=filename(job),
            file_path=video_url(job.id),
            thumbnail_path=thumbnail_url(job.id),
            prompt=params.prompt,
            model_type=params.model_type.value,
            resolution=f"{params.width}x{params.height}",
            duration_seconds=round(params.num_frames / params.fps, 3),
            file_size_mb=round(job.output["file_size_bytes"] / 1e6, 3),
            created_at=to_datetime(job.created_at if job.completed_at is None else job.completed_at),
            generation_time_minutes=round(job.result["generation_time_seconds"] / 60, 4),
            width=params.width,
            height=params.height,
            fps=params.fps,
            num_frames=params.num_frames,
            seed=params.seed,
            parameters=job.result["parameters_used"],
            is_mock=params.is_mock,
        )


class OutputsAnswer(BaseModel):
    """A page of completed videos, newest first, and the totals over all of them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    videos: list[VideoMetadata]
    total_count: int
    """Number of all completed videos."""
    total_size_mb: float
    """Size of all completed videos, in megabytes of 10^6 bytes."""
