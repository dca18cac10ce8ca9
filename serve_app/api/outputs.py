"""The native API's videos."""

from fastapi import APIRouter
from fastapi.responses import FileResponse

from deployments.jobs.job import Job, JobState
from serve_app.api.schemas import Message, OutputsAnswer, VideoMetadata, filename
from serve_app.api.services import Services, Serving
from wan22_bridge.errors import Conflict, NotFound

router = APIRouter(prefix="/api/v1/outputs", tags=["outputs"])

_MEDIA_TYPES = {"video": "video/mp4", "thumbnail": "image/webp", "last_frame": "image/png"}

_CHUNK_BYTES = 2**20
"""Each chunk is a message from the replica to the proxy: few large ones are faster than many small ones."""


@router.get("")
def list_outputs(serving: Serving) -> OutputsAnswer:
    """Lists the videos that are there, newest first."""
    videos = [VideoMetadata.of(job) for job in serving.store.page(states=[JobState.COMPLETED], limit=1000)]
    return OutputsAnswer(
        videos=videos,
        total_count=len(videos),
        total_size_mb=round(sum(video.file_size_mb for video in videos), 3),
    )


@router.get("/{video_id}")
def read_output(video_id: str, serving: Serving) -> VideoMetadata:
    """Reads what is known of one video."""
    return VideoMetadata.of(_completed(serving, video_id))


@router.get("/{video_id}/video", response_class=FileResponse)
def read_video(video_id: str, serving: Serving) -> FileResponse:
    """The mp4, or a range of it."""
    return output_file(serving, video_id, "video")


@router.get("/{video_id}/download", response_class=FileResponse)
def download(video_id: str, serving: Serving) -> FileResponse:
    """The mp4 as an attachment."""
    return output_file(serving, video_id, "video", attachment=True)


@router.get("/{video_id}/thumbnail", response_class=FileResponse)
def read_thumbnail(video_id: str, serving: Serving) -> FileResponse:
    """A small WebP."""
    return output_file(serving, video_id, "thumbnail")


@router.get("/{video_id}/last_frame", response_class=FileResponse)
def read_last_frame(video_id: str, serving: Serving) -> FileResponse:
    """The true last frame as PNG."""
    return output_file(serving, video_id, "last_frame")


@router.delete("/{video_id}")
def delete_output(video_id: str, serving: Serving) -> Message:
    """Deletes a video with its job."""
    _completed(serving, video_id)
    serving.jobs.delete(video_id)
    return Message(message="Deleted.")


def output_file(serving: Services, video_id: str, kind: str, *, attachment: bool = False) -> FileResponse:
    """One of a completed job's files: `video`, `thumbnail` or `last_frame`.

    Raises:
        JobNotFound: there is no such job.
        Conflict: it has no video yet, or will never have one.
    """
    job = _completed(serving, video_id)
    assert job.output is not None
    path = serving.storage.path(f"{job.output['folder']}/{job.output[kind]}")
    response = FileResponse(
        path,
        media_type=_MEDIA_TYPES[kind],
        filename=filename(job) if attachment else None,
        headers={"cache-control": "private, max-age=31536000, immutable"},
    )
    response.chunk_size = _CHUNK_BYTES
    return response


def _completed(serving: Services, video_id: str) -> Job:
    job = serving.store.get(video_id)
    if job.state is JobState.COMPLETED:
        return job
    if job.state.ended:
        raise NotFound(
            f"The job {job.state} and has no video." if job.state is JobState.FAILED else "The job was cancelled.",
            code="video_not_available",
        )
    raise Conflict(
        f"The video is not there yet: its job is {job.state}, at {job.progress:.0f} %.",
        code="video_not_ready",
        suggestions=[f"Watch GET /api/v1/generation/{job.id} until its status is completed."],
        can_retry=True,
    )
