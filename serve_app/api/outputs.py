"""The native API's routes for completed videos."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.responses import MalformedRangeHeader

from deployments.jobs.job import JobState
from serve_app.api.schemas.links import filename
from serve_app.api.schemas.outputs import OutputsAnswer, VideoMetadata
from serve_app.api.schemas.tasks import Message
from serve_app.api.services import Services, Serving

router = APIRouter(prefix="/api/v1/outputs", tags=["outputs"])

_MEDIA_TYPES = {"video": "video/mp4", "thumbnail": "image/webp", "last_frame": "image/png"}


class _File(FileResponse):
    """A file response with large chunks, because each chunk is a message from the replica to Serve's proxy."""

    chunk_size = 2**20

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """Ignores a malformed Range header, as RFC 9110 requires; Starlette responds with a plain-text 400 instead."""
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []


@router.get("")
def list_outputs(
    serving: Serving, limit: Annotated[int, Query(ge=1, le=1000)] = 1000, after: str | None = None
) -> OutputsAnswer:
    """Returns a page of completed videos, newest first."""
    page = serving.store.reader.page(states=[JobState.COMPLETED], limit=limit, after=after)
    return OutputsAnswer(
        videos=[VideoMetadata.of(job) for job in page],
        total_count=serving.store.reader.count()[JobState.COMPLETED],
        total_size_mb=round(serving.store.reader.output_bytes() / 1e6, 3),
    )


@router.get("/{video_id}")
def read_output(video_id: str, serving: Serving) -> VideoMetadata:
    """Returns the description of a completed video."""
    return VideoMetadata.of(serving.jobs.completed(video_id))


@router.get("/{video_id}/video", response_class=FileResponse)
@router.head("/{video_id}/video", include_in_schema=False)
def read_video(video_id: str, request: Request, serving: Serving) -> Response:
    """Returns the mp4, or a range of it."""
    return output_file(serving, request, video_id, "video")


@router.get("/{video_id}/download", response_class=FileResponse)
@router.head("/{video_id}/download", include_in_schema=False)
def download(video_id: str, request: Request, serving: Serving) -> Response:
    """Returns the mp4 as an attachment, which browsers save as a file."""
    return output_file(serving, request, video_id, "video", attachment=True)


@router.get("/{video_id}/thumbnail", response_class=FileResponse)
@router.head("/{video_id}/thumbnail", include_in_schema=False)
def read_thumbnail(video_id: str, request: Request, serving: Serving) -> Response:
    """Returns the video's thumbnail, a WebP."""
    return output_file(serving, request, video_id, "thumbnail")


@router.get("/{video_id}/last_frame", response_class=FileResponse)
@router.head("/{video_id}/last_frame", include_in_schema=False)
def read_last_frame(video_id: str, request: Request, serving: Serving) -> Response:
    """Returns the last frame as PNG, as it was before the video was compressed."""
    return output_file(serving, request, video_id, "last_frame")


@router.delete("/{video_id}")
def delete_output(video_id: str, serving: Serving) -> Message:
    """Deletes a completed video and its job."""
    serving.jobs.completed(video_id)
    serving.jobs.delete(video_id)
    return Message(message="Deleted.")


def output_file(serving: Services, request: Request, video_id: str, kind: str, *, attachment: bool = False) -> Response:
    """Returns a file of a completed job, or the range of it that the request asks for.

    Args:
        serving: the services.
        request: the request, with its Range and If-None-Match headers.
        video_id: the job's id.
        kind: `video`, `thumbnail` or `last_frame`.
        attachment: whether browsers should save the file.

    Raises:
        JobNotFound: the job does not exist.
        Conflict: the job has no video yet.
        NotFound: the job ended without a video.
    """
    job = serving.jobs.completed(video_id)
    assert job.output is not None
    path = serving.storage.path(f"{job.output['folder']}/{job.output[kind]}")
    response = _File(
        path,
        media_type=_MEDIA_TYPES[kind],
        filename=filename(job) if attachment else None,
        headers={"cache-control": "private, max-age=31536000, immutable"},
        stat_result=path.stat(),
    )
    if request.headers.get("if-none-match") == response.headers["etag"]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": response.headers["etag"]})
    return response
