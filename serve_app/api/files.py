"""Files of completed videos and inputs of jobs, with ranges and entity tags."""

from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable
from starlette.types import Receive, Scope, Send

from serve_app.api.access.callers import Caller
from serve_app.api.access.meter import meter_of
from serve_app.api.http.conditions import REVALIDATED, status_for
from serve_app.api.http.slots import Slots
from serve_app.api.schemas.links import filename
from serve_app.api.services import Services
from wan22_bridge.media.videos import is_video

_MEDIA_TYPES = {"video": "video/mp4", "thumbnail": "image/webp", "last_frame": "image/png"}
_IMAGE_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
"""Media types of the images that inputs may be, by their first bytes."""
_HEAD_BYTES = 16
_SMALL_BYTES = 1_000_000
"""Size below which a file, such as a thumbnail, takes no place for downloads."""


def describe_media(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI description of a response that is no JSON."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {HTTPStatus.OK.value: {"content": content}}


def describe_file(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI description of the responses of a route that returns a file."""
    ranges = describe_media(*media_types, "multipart/byteranges")[HTTPStatus.OK.value]
    return describe_media(*media_types) | {
        206: ranges | {"description": "The ranges of the file that the header `Range` names."},
        304: {"description": "The client has the file already: its entity tag is in `If-None-Match`."},
        412: {"description": "The file does not have the entity tag that `If-Match` names."},
        416: {"description": "The file has none of the bytes that `Range` names."},
    }


class _File(FileResponse):
    """A file response that holds one of the places for downloads, and one of its client's, while it is sent."""

    chunk_size = 2**17  # larger ones are hardly faster, and take memory while the client does not read

    def __init__(self, places: Slots, path: Path, **options: Any) -> None:
        super().__init__(path, stat_result=(status := path.stat()), **options)
        self._places, self._is_small = places, status.st_size < _SMALL_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as stack:
            if not self._is_small:
                stack.enter_context(meter_of(HTTPConnection(scope)).open(scope, "open_downloads"))
                stack.enter_context(self._places.hold())
            await super().__call__(scope, receive, send)

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        """Ignores a malformed Range header, as RFC 9110 requires; Starlette responds with a plain-text 400 instead.

        Raises:
            HTTPException: a range is outside of the file.
        """
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []
        except RangeNotSatisfiable as exc:
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            raise HTTPException(status, headers={"content-range": f"bytes */{exc.max_size}"}) from exc


def output_file(
    serving: Services, caller: Caller, request: Request, video_id: str, kind: str, *, attachment: bool = False
) -> Response:
    """Returns a file of a completed job, or the range of it that the request asks for.

    Args:
        serving: the services.
        caller: the caller, who may see the job.
        request: the request, with its Range header and its conditions.
        video_id: the job's id.
        kind: `video`, `thumbnail` or `last_frame`.
        attachment: whether browsers should save the file.

    Raises:
        JobNotFound: the job does not exist.
        Conflict: the job has no video yet.
        NotFound: the job ended without a video.
        HTTPException: the file does not have the entity tag that `If-Match` names.
    """
    job = serving.store.reader.completed(video_id, owner=caller.only)
    assert job.output is not None
    path = serving.storage.path(f"{job.output['folder']}/{job.output[kind]}")
    response = _File(
        serving.downloads,
        path,
        media_type=_MEDIA_TYPES[kind],
        filename=filename(job) if attachment else None,
        headers={"cache-control": REVALIDATED},
    )
    return _apply_conditions(request, response)


def input_file(serving: Services, caller: Caller, request: Request, upload_id: str) -> Response:
    """Returns a stored input, or the range of it that the request asks for.

    Args:
        serving: the services.
        caller: the caller, who must have stored the input or sees all inputs.
        request: the request, with its Range header and its conditions.
        upload_id: id of the upload, or of an input of a job.

    Raises:
        NotFound: there is no such input.
        HTTPException: the file does not have the entity tag that `If-Match` names.
    """
    path = serving.storage.path(serving.jobs.find_input(upload_id, only=caller.only))
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    headers = {"cache-control": REVALIDATED, "content-disposition": "inline"}
    response = _File(serving.downloads, path, media_type=_input_type(head), headers=headers)
    return _apply_conditions(request, response)


def _input_type(head: bytes) -> str:
    """Returns the media type of a checked input. Its content is one of these formats, whatever the client named it."""
    if is_video(head):
        return "video/mp4"
    return next((kind for start, kind in _IMAGE_TYPES.items() if head.startswith(start)), "application/octet-stream")


def _apply_conditions(request: Request, response: FileResponse) -> Response:
    status = status_for(request.headers, etag=response.headers["etag"], last_modified=response.headers["last-modified"])
    if status == HTTPStatus.PRECONDITION_FAILED:
        raise HTTPException(status)
    if status == HTTPStatus.NOT_MODIFIED:
        kept = {name: response.headers[name] for name in ("cache-control", "etag", "last-modified")}
        return Response(status_code=status, headers=kept)
    return response
