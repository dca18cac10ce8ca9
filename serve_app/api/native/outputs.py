"""The native API's routes for completed videos."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import JobState
from serve_app.api.access.callers import Reading, Submitting
from serve_app.api.access.links import DEFAULT_SECONDS, MAX_SECONDS, LinkedFile
from serve_app.api.files import describe_file, output_file
from serve_app.api.http.proxies import prefixed
from serve_app.api.schemas.links import to_datetime
from serve_app.api.schemas.outputs import OutputLink, OutputsAnswer, VideoMetadata
from serve_app.api.schemas.tasks import Message
from serve_app.api.services import Serving
from serve_app.api.spritesheets import SPRITESHEET_RESPONSE, spritesheet

router = APIRouter(prefix="/api/v1/outputs", tags=["outputs"])


@router.get("")
def list_outputs(
    serving: Serving,
    caller: Reading,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    after: str | None = None,
) -> OutputsAnswer:
    """Returns a page of completed videos, newest first."""
    reader, owner = serving.store.reader, caller.only
    page = reader.page(states=[JobState.COMPLETED], limit=limit, after=after, owner=owner)
    return OutputsAnswer(
        videos=[VideoMetadata.of(job) for job in page],
        total_count=reader.count(owner=owner)[JobState.COMPLETED],
        total_size_mb=round(reader.output_bytes(owner=owner) / 1e6, 3),
    )


@router.get("/{video_id}")
def read_output(video_id: str, serving: Serving, caller: Reading) -> VideoMetadata:
    """Returns the description of a completed video."""
    return VideoMetadata.of(serving.store.reader.completed(video_id, owner=caller.only))


@router.get("/{video_id}/video", response_class=FileResponse, responses=describe_file("video/mp4"))
async def read_output_video(video_id: str, request: Request, serving: Serving, caller: Reading) -> Response:
    """Returns the mp4, or a range of it."""
    return await serving.use_storage(output_file, serving, caller, request, video_id, "video")


@router.get("/{video_id}/download", response_class=FileResponse, responses=describe_file("video/mp4"))
async def download_output(video_id: str, request: Request, serving: Serving, caller: Reading) -> Response:
    """Returns the mp4 as an attachment, which browsers save as a file."""
    return await serving.use_storage(output_file, serving, caller, request, video_id, "video", attachment=True)


@router.get("/{video_id}/thumbnail", response_class=FileResponse, responses=describe_file("image/webp"))
async def read_output_thumbnail(video_id: str, request: Request, serving: Serving, caller: Reading) -> Response:
    """Returns the video's thumbnail, a WebP."""
    return await serving.use_storage(output_file, serving, caller, request, video_id, "thumbnail")


@router.get("/{video_id}/last_frame", response_class=FileResponse, responses=describe_file("image/png"))
async def read_output_last_frame(video_id: str, request: Request, serving: Serving, caller: Reading) -> Response:
    """Returns the last frame as PNG, as it was before the video was compressed."""
    return await serving.use_storage(output_file, serving, caller, request, video_id, "last_frame")


@router.get("/{video_id}/spritesheet", response_class=Response, responses=SPRITESHEET_RESPONSE)
async def read_output_spritesheet(video_id: str, request: Request, serving: Serving, caller: Reading) -> Response:
    """Returns up to 25 evenly spaced frames of the video in a grid, as WebP.

    The `x-spritesheet-*` headers state the grid's columns and rows, the size of a tile, and the frame in each tile.
    """
    return await serving.use_storage(spritesheet, serving, caller, request, video_id)


@router.get("/{video_id}/link")
def sign_output_link(
    video_id: str,
    request: Request,
    serving: Serving,
    caller: Reading,
    file: Annotated[LinkedFile, Query(description="The file: one of the routes below `/outputs/{id}`.")] = "video",
    expires_seconds: Annotated[
        int, Query(ge=1, le=MAX_SECONDS, description="Lifetime of the link in seconds, at most 7 days.")
    ] = DEFAULT_SECONDS,
) -> OutputLink:
    """Returns an address of the video, its thumbnail or its last frame that needs no API key until it expires.

    Pages can use it in `<video src>`. A link outlives the key that asked for it; deleting the video ends its links.
    """
    job = serving.store.reader.completed(video_id, owner=caller.only)
    path, expires_at = serving.links.sign(f"{router.prefix}/{job.id}/{file}", expires_seconds)
    url = f"{request.url.scheme}://{request.url.netloc}{prefixed(path)}"
    return OutputLink(url=url, expires_at=to_datetime(expires_at))


@router.delete("/{video_id}")
async def delete_output(video_id: str, serving: Serving, caller: Submitting) -> Message:
    """Deletes a completed video and its job."""
    await run_in_threadpool(serving.store.reader.completed, video_id, owner=caller.only)
    await serving.use_storage(serving.jobs.delete, video_id, owner=caller.only)
    return Message(message="Deleted.")
