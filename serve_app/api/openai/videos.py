"""The OpenAI-compatible API's routes under /v1. The routes that use an earlier video are in `remakes`."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from deployments.jobs.job import Job
from serve_app.api.access.callers import NEEDS_READ, Reading, Submitting
from serve_app.api.files import describe_file, output_file
from serve_app.api.http.bodies import read_body
from serve_app.api.openai.bodies import VIDEO_BODY, submit_openai_body
from serve_app.api.schemas.openai import NewVideo, Video, VideoDeleted, VideoList
from serve_app.api.schemas.served_models import Model, ModelInfo, ModelList
from serve_app.api.services import Serving
from serve_app.api.spritesheets import spritesheet
from serve_app.api.submission import IdempotencyKey, run_submission
from wan22_bridge.errors import NotFound

router = APIRouter(prefix="/v1", tags=["openai"])

_POLL_MS = (250, 5000)
"""Bounds of the polling interval that the API suggests to clients."""


@router.post("/videos", openapi_extra=VIDEO_BODY)
async def create_video(
    request: Request, response: Response, serving: Serving, caller: Submitting, idempotency_key: IdempotencyKey
) -> NewVideo:
    """Submits a job: `prompt`, `model`, `seconds`, `size`, `input_reference`, and every field of the native API.

    With `n` (or `num_outputs`) or `seeds`, submits several jobs as one batch, all of them or none, and returns the
    first of them. `GET /api/v1/batches/{batch_id}` reads the batch.
    """
    body = await read_body(request)
    jobs = await run_submission(submit_openai_body, serving, caller, body, idempotency_key)
    return describe_new_jobs(jobs, response)


@router.get("/videos")
def list_videos(
    serving: Serving,
    caller: Reading,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """Returns a page of jobs, by default newest first."""
    found = serving.store.reader.page(after=after, limit=limit + 1, newest_first=order == "desc", owner=caller.only)
    page = found[:limit]
    return VideoList(
        data=[Video.of(job) for job in page],
        first_id=page[0].id if page else None,
        last_id=page[-1].id if page else None,
        has_more=len(found) > limit,
    )


@router.get("/videos/{video_id}")
async def read_video(video_id: str, response: Response, serving: Serving, caller: Reading) -> Video:
    """Returns a job. The header `openai-poll-after-ms` suggests when to poll again, until the job has ended."""
    job = await serving.read(lambda: serving.store.reader.get(video_id, owner=caller.only))
    return describe_job(job, response)


@router.delete("/videos/{video_id}")
async def delete_video(video_id: str, serving: Serving, caller: Submitting) -> VideoDeleted:
    """Deletes a job and its video. A running job is stopped."""
    await serving.use_storage(serving.jobs.delete, video_id, owner=caller.only)
    return VideoDeleted(id=video_id)


@router.get(
    "/videos/{video_id}/content",
    response_class=FileResponse,
    responses=describe_file("video/mp4", "image/webp"),
)
async def read_video_content(
    video_id: str,
    request: Request,
    serving: Serving,
    caller: Reading,
    variant: Literal["video", "thumbnail", "spritesheet"] = "video",
) -> Response:
    """Returns the mp4 or its thumbnail, or a range of it, or the video's spritesheet as `/outputs/{id}/spritesheet`."""
    if variant == "spritesheet":
        return await serving.use_storage(spritesheet, serving, caller, request, video_id)
    return await serving.use_storage(output_file, serving, caller, request, video_id, variant)


@router.get("/models", dependencies=[NEEDS_READ])
def list_models(serving: Serving) -> ModelList:
    """Returns all served models."""
    return ModelList(data=[Model.of(spec) for spec in serving.served])


@router.get("/model_info", dependencies=[NEEDS_READ])
def read_model_info(serving: Serving) -> ModelInfo:
    """Returns the first served model, as SGLang's clients ask for it."""
    return ModelInfo.of(serving.served)


@router.get("/models/{model_id}", dependencies=[NEEDS_READ])
def read_model(model_id: str, serving: Serving) -> Model:
    """Returns a served model."""
    for spec in serving.served:
        if spec.id == model_id:
            return Model.of(spec)
    raise NotFound(
        f"This service has no model {model_id[:80]!r}.",
        code="model_not_found",
        param="model",
        suggestions=[f"Use one of: {', '.join(spec.id for spec in serving.served)}."],
    )


def describe_job(job: Job, response: Response) -> Video:
    """Returns a job's body. Until the job has ended, adds the header that suggests when to poll again."""
    _suggest_polling(job, response)
    return Video.of(job)


def describe_new_jobs(jobs: Sequence[Job], response: Response) -> NewVideo:
    """Returns the body for the jobs of a request that were just stored, and adds the header as `describe_job` does."""
    _suggest_polling(jobs[0], response)
    return NewVideo.of(jobs[0], video_ids=[job.id for job in jobs] if jobs[0].batch_id else None)


def _suggest_polling(job: Job, response: Response) -> None:
    """Adds the header, with a quarter of the estimated remaining time, within bounds."""
    if not job.state.ended:
        shortest, longest = _POLL_MS
        milliseconds = shortest if job.eta_seconds is None else int(job.eta_seconds * 250)
        response.headers["openai-poll-after-ms"] = str(min(max(milliseconds, shortest), longest))
