"""The OpenAI-compatible API's route that responds with the video itself, as vLLM-Omni's does."""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import Job, JobState
from serve_app.api.access.callers import Submitting
from serve_app.api.access.limiting import HOLDS_STREAM
from serve_app.api.files import describe_file, output_file
from serve_app.api.http.bodies import read_body
from serve_app.api.http.errors import respond_to_error
from serve_app.api.openai.bodies import ONE_VIDEO_BODY, submit_openai_body
from serve_app.api.services import Serving
from serve_app.api.submission import IdempotencyKey, run_submission
from wan22_bridge.errors import Wan22Error

router = APIRouter(prefix="/v1/videos", tags=["openai"])

_MAX_SECONDS = 3600.0
_DEFAULT_SECONDS = 1200.0
"""Time limit where the request sets none, as in vLLM-Omni."""
_POLL_SECONDS = (0.1, 2.0)
"""Shortest and longest time between two looks at the job."""


class VideoTimeout(Wan22Error):
    """The video was not complete within the time limit."""

    category = "capacity"
    default_code = "video_timeout"


class VideoFailed(Wan22Error):
    """The job ended without a video."""

    category = "generation"
    default_code = "generation_failed"


@router.post(
    "/sync",
    dependencies=[HOLDS_STREAM],
    openapi_extra=ONE_VIDEO_BODY,
    response_class=FileResponse,
    responses=describe_file("video/mp4"),
)
async def create_and_wait(
    request: Request,
    serving: Serving,
    caller: Submitting,
    idempotency_key: IdempotencyKey,
    timeout_seconds: Annotated[float, Query(gt=0, le=_MAX_SECONDS)] = _DEFAULT_SECONDS,
) -> Response:
    """Submits a job as `POST /v1/videos` does, waits until it ends, and returns the mp4. It makes one video only.

    The header `x-video-id` has the job's id, in errors too. The job is stored before the wait: it runs on after a
    disconnect and after the time limit, and `GET /v1/videos/{video_id}` reads it.
    """
    body = await read_body(request)
    with serving.streams.hold():
        [job] = await run_submission(submit_openai_body, serving, caller, body, idempotency_key, only_one=True)
        headers = {"x-video-id": job.id}
        try:
            await _wait(serving, job, timeout_seconds)
            response = await serving.use_storage(output_file, serving, caller, request, job.id, "video")
        except Wan22Error as exc:
            # A client that sent the request again would make a second job.
            return respond_to_error(exc, headers | {"x-should-retry": "false"})
    response.headers.update(headers)
    return response


async def _wait(serving: Serving, job: Job, seconds: float) -> None:
    """Waits until a job is completed.

    Raises:
        VideoFailed: the job failed or was cancelled.
        VideoTimeout: the job has not ended in time.
        JobNotFound: the job was deleted.
    """
    started = time.monotonic()
    shortest, longest = _POLL_SECONDS
    while not job.state.ended:
        passed = time.monotonic() - started
        if passed >= seconds:
            raise VideoTimeout(
                f"{job.id} is {job.state} at {job.progress:.0f} % after the time limit of {seconds:g} s. It runs on.",
                suggestions=[
                    f"Poll GET /v1/videos/{job.id} until status is completed, then GET /v1/videos/{job.id}/content.",
                ],
            )
        await asyncio.sleep(min(max(passed / 10, shortest), longest, seconds - passed))
        job = await run_in_threadpool(serving.store.reader.get, job.id)
    if job.state is JobState.CANCELLED:
        raise VideoFailed(f"{job.id} was cancelled.", code="cancelled")
    if job.error is not None:
        raise VideoFailed(job.error["message"], code=job.error["code"], suggestions=job.error.get("suggestions", ()))
