"""The native API's videos."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.responses import MalformedRangeHeader

from deployments.jobs.job import JobState
from serve_app.api.schemas import Message, OutputsAnswer, VideoMetadata, filename
from serve_app.api.services import Services, Serving

router = APIRouter(prefix="/api/v1/outputs", tags=["outputs"])

_MEDIA_TYPES = {"video": "video/mp4", "thumbnail": "image/webp", "last_frame": "image/png"}


class _File(FileResponse):
    """A file in few large chunks, each being a message from the replica to the proxy."""

    chunk_size = 2**20

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """A Range that can't be read is as none, as HTTP asks for; Starlette's own answer is a 400 in plain text."""
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []


@router.get("")
def list_outputs(
    serving: Serving, limit: Annotated[int, Query(ge=1, le=1000)] = 1000, after: str | None = None
) -> OutputsAnswer:
    """Lists the videos that are there, newest first."""
    page = serving.store.reader.page(states=[JobState.COMPLETED], limit=limit, after=after)
    return OutputsAnswer(
        videos=[VideoMetadata.of(job) for job in page],
        total_count=serving.store.reader.count()[JobState.COMPLETED],
        total_size_mb=round(serving.store.reader.output_bytes() / 1e6, 3),
    )


@router.get("/{video_id}")
def read_output(video_id: str, serving: Serving) -> VideoMetadata:
    """Reads what is known of one video."""
    return VideoMetadata.of(serving.jobs.completed(video_id))


@router.get("/{video_id}/video", response_class=FileResponse)
@router.head("/{video_id}/video", include_in_schema=False)
def read_video(video_id: str, request: Request, serving: Serving) -> Response:
    """The mp4, or a range of it."""
    return output_file(serving, request, video_id, "video")


@router.get("/{video_id}/download", response_class=FileResponse)
@router.head("/{video_id}/download", include_in_schema=False)
def download(video_id: str, request: Request, serving: Serving) -> Response:
    """The mp4 as an attachment."""
    return output_file(serving, request, video_id, "video", attachment=True)


@router.get("/{video_id}/thumbnail", response_class=FileResponse)
@router.head("/{video_id}/thumbnail", include_in_schema=False)
def read_thumbnail(video_id: str, request: Request, serving: Serving) -> Response:
    """A small WebP."""
    return output_file(serving, request, video_id, "thumbnail")


@router.get("/{video_id}/last_frame", response_class=FileResponse)
@router.head("/{video_id}/last_frame", include_in_schema=False)
def read_last_frame(video_id: str, request: Request, serving: Serving) -> Response:
    """The true last frame as PNG."""
    return output_file(serving, request, video_id, "last_frame")


@router.delete("/{video_id}")
def delete_output(video_id: str, serving: Serving) -> Message:
    """Deletes a video with its job."""
    serving.jobs.completed(video_id)
    serving.jobs.delete(video_id)
    return Message(message="Deleted.")


def output_file(serving: Services, request: Request, video_id: str, kind: str, *, attachment: bool = False) -> Response:
    """One of a completed job's files: `video`, `thumbnail` or `last_frame`; as much of it as the request wants.

    Raises:
        JobNotFound: there is no such job.
        Conflict: it has no video yet.
        NotFound: it will never have one.
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
