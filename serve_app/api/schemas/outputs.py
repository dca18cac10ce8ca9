"""Bodies of the native API's responses about completed videos."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from deployments.jobs.job import Job
from deployments.jobs.videos import Shape, VideoFilter
from serve_app.api.schemas.links import filename, thumbnail_url, to_datetime, video_url
from wan22_bridge.options import WholeAsInt
from wan22_bridge.types import ModelType

Tag = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, min_length=1, max_length=40, pattern=r'^[^,"\\\x00-\x1f]+$'
    ),
]
"""A tag of a video. It is stored in small letters."""


class OutputsQuery(BaseModel):
    """Page of a list of completed videos, and what the videos have in common."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    limit: int = Field(default=1000, ge=1, le=1000)
    """Largest number of videos."""
    after: str | None = None
    """Id of the last video of the previous page."""
    order: Literal["desc", "asc"] = "desc"
    """`desc` lists the newest submission first, `asc` the oldest."""
    query: str | None = Field(default=None, max_length=200)
    """Words that the prompt contains, in any order, in small or capital letters."""
    model_type: ModelType | None = None
    """Type of the model."""
    shape: Shape | None = None
    """Shape of the picture."""
    favorite: bool | None = None
    """Whether to list only favorites, or no favorites."""
    tag: Tag | None = None
    """Tag that the videos have."""
    is_mock: bool | None = None
    """Whether to list only placeholders that no model generated, or no placeholders."""
    completed_from: datetime | None = None
    """First time of completion. A time without a zone is in UTC."""
    completed_before: datetime | None = None
    """End of the times of completion, which is not included."""

    def to_filter(self) -> VideoFilter:
        """Returns the conditions on the videos."""
        return VideoFilter(
            query=self.query,
            model_type=self.model_type,
            shape=self.shape,
            favorite=self.favorite,
            tag=self.tag,
            is_mock=self.is_mock,
            completed_from=_to_seconds(self.completed_from),
            completed_before=_to_seconds(self.completed_before),
        )


class OutputMarks(BaseModel):
    """Changes of what a user notes about a video. A field that is missing or null changes nothing."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    favorite: bool | None = None
    tags: list[Tag] | None = Field(default=None, max_length=20)
    """All tags of the video, which replace its present ones."""


class TagCount(BaseModel):
    """A tag."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tag: str
    count: int
    """Number of videos with the tag."""


class TagsAnswer(BaseModel):
    """All tags of completed videos, in alphabetical order."""

    tags: list[TagCount]


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
    favorite: bool
    """Whether a user has marked the video as a favorite."""
    tags: list[str]
    """Tags that users gave the video."""
    deletion_due_at: datetime | None
    """Time at which the service deletes the video, if a deletion can still be undone."""

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
            favorite=job.favorite,
            tags=job.tags,
            deletion_due_at=None if job.deletion_due_at is None else to_datetime(job.deletion_due_at),
        )


class OutputsAnswer(BaseModel):
    """A page of completed videos, and the totals over all that meet the conditions of the request."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    videos: list[VideoMetadata]
    total_count: int
    """Number of the completed videos on all pages."""
    total_size_mb: float
    """Their size, in megabytes of 10^6 bytes."""


def _to_seconds(time: datetime | None) -> float | None:
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
