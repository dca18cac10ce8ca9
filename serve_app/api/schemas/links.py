"""Names and addresses under which clients find a job's files, and other values that several schemas show."""

from datetime import UTC, datetime

from deployments.jobs.job import Job
from serve_app.api.http.proxies import prefixed


def to_datetime(seconds: float) -> datetime:
    """Converts seconds since the epoch into a time with a zone."""
    return datetime.fromtimestamp(seconds, UTC)


def video_url(job_id: str) -> str:
    """Returns the path of a job's video in the native API, as the client of the current request reaches it."""
    return prefixed(f"/api/v1/outputs/{job_id}/video")


def thumbnail_url(job_id: str) -> str:
    """Returns the path of a video's thumbnail in the native API, as the client of the current request reaches it."""
    return prefixed(f"/api/v1/outputs/{job_id}/thumbnail")


def dropped_tokens(job: Job) -> int | None:
    """Returns the tokens of a job's prompt that the model cuts off: as its result says, else as its submission did."""
    dropped: int | None = (job.result or {}).get("prompt_tokens_dropped", job.params.prompt_tokens_dropped)
    return dropped


def preview_url(job_id: str) -> str:
    """Returns the path of a running job's newest preview, as the client of the current request reaches it."""
    return prefixed(f"/api/v1/generation/{job_id}/preview")


def filename(job: Job) -> str:
    """Returns the file name under which a job's video is downloaded."""
    return f"{job.id}.mp4"


def upload_id(key: str) -> str:
    """Returns the id by which a client names an input: the last part of its key in the storage."""
    return key.rpartition("/")[2]
