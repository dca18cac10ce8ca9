"""The native API's routes for jobs: submission, uploads, status, previews and the queue."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import Job, JobState
from deployments.scheduling.costs import estimate_seconds
from serve_app.api.bodies import Body, read_body
from serve_app.api.errors import invalid_fields
from serve_app.api.schemas.submissions import SubmitAnswer, SubmitRequest
from serve_app.api.schemas.tasks import Message, QueueAnswer, ReorderRequest, TaskInfo
from serve_app.api.schemas.uploads import Upload
from serve_app.api.services import Services, Serving
from wan22_bridge.errors import InvalidRequest, NotFound
from wan22_bridge.types import GenerationParams

router = APIRouter(prefix="/api/v1", tags=["native"])

SUBMIT_SCHEMA = SubmitRequest.model_json_schema()
_FILES = {
    name: {"type": "string", "format": "binary", "description": description}
    for name, description in {
        "image": "First frame: PNG, JPEG or WebP. With an mp4, the new video continues that video from its last frame.",
        "end_image": "Last frame: PNG, JPEG or WebP.",
        "video": "Input of video-to-video, an mp4. T2V-A14B and TI2V-5B support it.",
    }.items()
}
_UPLOAD_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary", "description": "PNG, JPEG, WebP or mp4."}},
}


def describe_body(form: dict[str, Any], json: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns the OpenAPI description of a body that the route reads itself.

    Args:
        form: the JSON schema of a form.
        json: the JSON schema of a JSON body; by default the same as `form`.
    """
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": json or form}}
    return {"requestBody": {"required": True, "content": content}}


IdempotencyKey = Annotated[str | None, Header(max_length=255)]


@router.post(
    "/generation/submit",
    openapi_extra=describe_body(
        SUBMIT_SCHEMA | {"properties": SUBMIT_SCHEMA["properties"] | _FILES}, json=SUBMIT_SCHEMA
    ),
)
async def submit(request: Request, serving: Serving, idempotency_key: IdempotencyKey = None) -> SubmitAnswer:
    """Submits a job. The job is stored durably before the response is sent.

    With an `Idempotency-Key` header, a repeated request returns the first request's job.
    """
    body = await read_body(request)
    job = await run_in_threadpool(submit_body, serving, body, idempotency_key)
    return SubmitAnswer.of(job, estimated_seconds=await run_in_threadpool(_estimate_seconds, serving, job.params))


def _estimate_seconds(serving: Services, params: GenerationParams) -> float | None:
    return estimate_seconds(params, serving.store.reader.run_times(params.model))


def submit_body(serving: Services, body: Body, idempotency_key: str | None, *, seconds: float | None = None) -> Job:
    """Submits a body with the native API's fields and files.

    Args:
        serving: the services.
        body: the fields and files.
        idempotency_key: the header's value; None or empty if there is none.
        seconds: the video's length, used if the body has no `num_frames`.

    Raises:
        InvalidRequest: a field is not valid; the error names it.
        JobNotFound: an input names a job that does not exist.
        Conflict: an input names a job that has no video yet.
        NotFound: an input names a job that ended without a video.
        IdempotencyConflict: the idempotency key was used with another request.
    """
    for name in body.files:
        if name not in _FILES:
            raise InvalidRequest(
                f"Unknown file field {name[:80]!r}: expected {', '.join(_FILES)}.",
                code="unknown_field",
                param=name,
                suggestions=["Send the first frame as image, the last frame as end_image, or a video as video."],
            )
    try:
        submitted = SubmitRequest.model_validate(body.fields)
    except ValidationError as exc:
        raise invalid_fields(exc) from exc
    return serving.jobs.submit(
        submitted.to_request(seconds=seconds),
        image=body.files.get("image", submitted.image_path),
        end_image=body.files.get("end_image", submitted.end_image_path),
        video=body.files.get("video", submitted.video_path),
        priority=submitted.to_priority(),
        metadata=submitted.metadata,
        idempotency_key=idempotency_key or None,
        body=submitted.model_dump(mode="json", exclude_defaults=True),
    )


@router.post("/uploads", openapi_extra=describe_body(_UPLOAD_SCHEMA))
async def upload(request: Request, serving: Serving) -> Upload:
    """Stores an image or a video for later requests. An upload that no job uses is removed after a day."""
    body = await read_body(request)
    data = body.files.get("file")
    if data is None:
        raise InvalidRequest(
            "The request has no file.",
            code="file_required",
            param="file",
            suggestions=["Send the image or video as file in multipart/form-data."],
        )
    return Upload.of(await run_in_threadpool(serving.jobs.upload, data), size_bytes=len(data))


@router.get("/generation/{task_id}")
def read_task(task_id: str, serving: Serving) -> TaskInfo:
    """Returns a job."""
    job = serving.store.reader.get(task_id)
    return TaskInfo.of(job, queue_position=serving.store.reader.queue_positions().get(job.id))


@router.get("/generation/{task_id}/preview", response_class=Response)
def read_preview(task_id: str, serving: Serving) -> Response:
    """Returns the newest live preview of a running job, an animated WebP.

    Responds 404 before the first preview, and once the job has ended.
    """
    job = serving.store.reader.get(task_id)
    content = serving.storage.read_preview(job.id) if job.state is JobState.PROCESSING else None
    if content is None:
        raise NotFound(
            f"{job.id} has no preview: the job is {job.state}.",
            code="preview_not_found",
            suggestions=["Previews exist from a running job's first step until its end."],
        )
    return Response(content, media_type="image/webp", headers={"Cache-Control": "no-store"})


@router.post("/queue/reorder")
def reorder(order: ReorderRequest, serving: Serving) -> Message:
    """Changes the order of pending jobs. They exchange their places; all other jobs keep theirs."""
    serving.store.writer.reorder(order.task_ids)
    return Message(message="Reordered.")


@router.get("/queue")
def read_queue(
    serving: Serving,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
    status: JobState | None = None,
) -> QueueAnswer:
    """Returns the number of jobs in each state, and a page of jobs, newest first."""
    store = serving.store
    counts = store.reader.count()
    positions = store.reader.queue_positions()
    running = store.reader.page(states=[JobState.PROCESSING], limit=1, newest_first=False)
    page = store.reader.page(states=[status] if status else (), after=after, limit=limit)
    tasks = [TaskInfo.of(job, queue_position=positions.get(job.id)) for job in page]
    return QueueAnswer(
        total_tasks=sum(counts.values()),
        pending_tasks=counts[JobState.PENDING],
        processing_tasks=counts[JobState.PROCESSING],
        completed_tasks=counts[JobState.COMPLETED],
        failed_tasks=counts[JobState.FAILED],
        cancelled_tasks=counts[JobState.CANCELLED],
        current_task=TaskInfo.of(running[0]) if running else None,
        tasks=tasks,
        queue=tasks,
    )


@router.post("/queue/{task_id}/cancel")
def cancel(task_id: str, serving: Serving) -> Message:
    """Cancels a job: a pending job at once, a running job within one denoising step."""
    job = serving.store.writer.request_cancel(task_id)
    return Message(message="Cancelled." if job.state.ended else "Cancelling: the job stops within one denoising step.")
