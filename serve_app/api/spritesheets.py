"""Responses with the spritesheet of a completed video."""

from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request, Response

from serve_app.api.access.callers import Caller
from serve_app.api.http.conditions import REVALIDATED, is_known
from serve_app.api.services import Services
from wan22_bridge.media.spritesheets import Spritesheet, make_spritesheet

_CACHED_SHEETS = 32
"""Number of spritesheets in memory. One has at most a few hundred kilobytes."""

SPRITESHEET_RESPONSE: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK.value: {
        "description": "The spritesheet. Its headers describe the grid.",
        "content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            f"x-spritesheet-{name}": {"description": description, "schema": {"type": "string"}}
            for name, description in {
                "columns": "Number of columns.",
                "rows": "Number of rows. The last row may not be full.",
                "tile-width": "Width of a tile in pixels.",
                "tile-height": "Height of a tile in pixels.",
                "frames": "Index in the video of the frame in each tile, row by row, separated by commas.",
            }.items()
        },
    },
    HTTPStatus.NOT_MODIFIED.value: {"description": "The client has the spritesheet already."},
}
"""OpenAPI description of a response with a spritesheet."""


def spritesheet(serving: Services, caller: Caller, request: Request, video_id: str) -> Response:
    """Returns the spritesheet of a completed job: up to 25 frames of the video in a grid, as WebP.

    The sheet is made from the mp4 on demand, because few clients ask for it, and so that every video has one,
    however and whenever it was made. Its entity tag lets clients keep it as long as the video exists.

    Args:
        serving: the services.
        caller: the caller, who may see the job.
        request: the request, with its If-None-Match header.
        video_id: the job's id.

    Raises:
        JobNotFound: the job does not exist.
        Conflict: the job has no video yet.
        NotFound: the job ended without a video.
        StorageFailed: the mp4 can't be read.
    """
    job = serving.store.reader.completed(video_id, owner=caller.only)
    assert job.output is not None
    key = f"{job.output['folder']}/{job.output['video']}"
    headers = {
        "etag": f'"spritesheet-{job.id}-{job.fencing_token}"',
        "cache-control": REVALIDATED,
    }
    if is_known(headers["etag"], request.headers.get("if-none-match")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    sheet = _make(serving.storage.path(key))
    headers |= {
        "x-spritesheet-columns": str(sheet.columns),
        "x-spritesheet-rows": str(sheet.rows),
        "x-spritesheet-tile-width": str(sheet.tile_width),
        "x-spritesheet-tile-height": str(sheet.tile_height),
        "x-spritesheet-frames": ",".join(map(str, sheet.frames)),
    }
    return Response(sheet.content, media_type="image/webp", headers=headers)


@lru_cache(maxsize=_CACHED_SHEETS)
def _make(path: Path) -> Spritesheet:
    """Makes a spritesheet, or returns the one that was made before: the file of a key never changes."""
    return make_spritesheet(path)
