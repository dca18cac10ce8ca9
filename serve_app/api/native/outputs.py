"""The native API's routes for completed videos."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from serve_app.api.access.callers import Reading, Submitting
from serve_app.api.access.links import DEFAULT_SECONDS, MAX_SECONDS, LinkedFile
from serve_app.api.files import describe_file, output_file
from serve_app.api.http.proxies import prefixed
from serve_app.api.schemas.links import to_datetime
from serve_app.api.schemas.outputs import (
    OutputLink,
    OutputMarks,
    OutputsAnswer,
    OutputsQuery,
    TagCount,
    TagsAnswer,
    VideoMetadata,
)
from serve_app.api.schemas.tasks import Message
from serve_app.api.services import Serving
from serve_app.api.spritesheets import SPRITESHEET_RESPONSE, spritesheet

router = APIRouter(prefix="/api/v1/outputs", tags=["outputs"])


@router.get("")
def list_outputs(serving: Serving, caller: Reading, page: Annotated[OutputsQuery, Query()]) -> OutputsAnswer:
    """Returns a page of completed videos, newest first, and the totals over all pages.

    Each condition leaves out videos. A video that is about to be deleted is not listed.
    """
    found, totals = serving.store.videos.page(
        page.to_filter(),
        limit=page.limit,
        after=page.after,
        newest_first=page.order == "desc",
        owner=caller.only,
    )
    return OutputsAnswer(
        videos=[VideoMetadata.of(job) for job in found],
        total_count=totals.count,
        total_size_mb=round(totals.size_bytes / 1e6, 3),
    )


@router.get("/tags")
def list_tags(serving: Serving, caller: Reading) -> TagsAnswer:
    """Returns the tags of all completed videos, with the number of videos that have each."""
    counts = serving.store.videos.tags(owner=caller.only)
    return TagsAnswer(tags=[TagCount(tag=tag, count=count) for tag, count in sorted(counts.items())])


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


@router.patch("/{video_id}")
async def mark_output(video_id: str, marks: OutputMarks, serving: Serving, caller: Submitting) -> VideoMetadata:
    """Marks a completed video as a favorite, or gives it tags."""
    await run_in_threadpool(serving.store.reader.completed, video_id, owner=caller.only)
    tags = None if marks.tags is None else list(dict.fromkeys(marks.tags))
    mark = serving.store.videos.mark
    return VideoMetadata.of(
        await run_in_threadpool(mark, video_id, favorite=marks.favorite, tags=tags, owner=caller.only)
    )


@router.delete("/{video_id}")
async def delete_output(
    video_id: str,
    serving: Serving,
    caller: Submitting,
    undo_seconds: Annotated[
        int, Query(ge=0, le=86400, description="Time for which the deletion can be undone, at most a day.")
    ] = 0,
) -> Message:
    """Deletes a completed video and its job.

    With `undo_seconds`, the video leaves all lists at once, also those of jobs, and is deleted after that time, unless
    `POST /outputs/{id}/restore` undoes it. Until then, requests that name the video still find it.
    """
    await run_in_threadpool(serving.store.reader.completed, video_id, owner=caller.only)
    if undo_seconds:
        delete_later = serving.store.videos.delete_later
        await run_in_threadpool(delete_later, video_id, seconds=undo_seconds, owner=caller.only)
        return Message(message=f"The video is deleted in {undo_seconds} seconds.")
    await serving.use_storage(serving.jobs.delete, video_id, owner=caller.only)
    return Message(message="Deleted.")


@router.post("/{video_id}/restore")
async def restore_output(video_id: str, serving: Serving, caller: Submitting) -> VideoMetadata:
    """Undoes the deletion of a video. Does nothing to a video that is not about to be deleted."""
    await run_in_threadpool(serving.store.reader.completed, video_id, owner=caller.only)
    return VideoMetadata.of(await run_in_threadpool(serving.store.videos.restore, video_id, owner=caller.only))
