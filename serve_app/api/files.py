"""Files of completed videos, with ranges and entity tags."""

from http import HTTPStatus

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.responses import MalformedRangeHeader

from serve_app.api.schemas.links import filename
from serve_app.api.services import Services

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
