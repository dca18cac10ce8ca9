"""Files of completed videos, with ranges and entity tags."""

from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.responses import MalformedRangeHeader, RangeNotSatisfiable
from starlette.types import Receive, Scope, Send

from serve_app.api.access.callers import Caller
from serve_app.api.http.conditions import REVALIDATED, status_for
from serve_app.api.http.slots import Slots
from serve_app.api.schemas.links import filename
from serve_app.api.services import Services

_MEDIA_TYPES = {"video": "video/mp4", "thumbnail": "image/webp", "last_frame": "image/png"}


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
    """A file response that holds one of the places for downloads while it is sent."""

    chunk_size = 2**17  # larger ones are hardly faster, and take memory while the client does not read

    def __init__(self, places: Slots, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.hold():
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
        stat_result=path.stat(),
    )
    status = status_for(request.headers, etag=response.headers["etag"], last_modified=response.headers["last-modified"])
    if status == HTTPStatus.PRECONDITION_FAILED:
        raise HTTPException(status)
    if status == HTTPStatus.NOT_MODIFIED:
        kept = {name: response.headers[name] for name in ("cache-control", "etag", "last-modified")}
        return Response(status_code=status, headers=kept)
    return response
