"""The native API: submitting, watching and cancelling jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.job import Job, JobState
from deployments.scheduling.costs import estimate_seconds
from serve_app.api.bodies import Body, read_body
from serve_app.api.errors import invalid_fields
from serve_app.api.schemas import Message, QueueAnswer, ReorderRequest, SubmitAnswer, SubmitRequest, TaskInfo, Upload
from serve_app.api.services import Services, Serving
from wan22_bridge.errors import InvalidRequest, NotFound
from wan22_bridge.types import GenerationParams

router = APIRouter(prefix="/api/v1", tags=["native"])

SUBMIT_SCHEMA = SubmitRequest.model_json_schema()
_FILES = {
    name: {"type": "string", "format": "binary", "description": description}
    for name, description in {
        "image": "The first frame: PNG, JPEG or WebP; or an mp4, to go on from its last frame.",
        "end_image": "The last frame.",
        "video": "An mp4 to make anew, frame by frame; T2V-A14B and TI2V-5B do.",
    }.items()
}
_UPLOAD_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary", "description": "PNG, JPEG, WebP or mp4."}},
}


def describe_body(form: dict[str, Any], json: dict[str, Any] | None = None) -> dict[str, Any]:
    """A request body for the route's documentation, the route reading it by itself."""
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
    """Takes a job in. It is on the disk when this answers."""
    body = await read_body(request)
    job = await run_in_threadpool(submit_body, serving, body, idempotency_key)
    return SubmitAnswer(
        task_id=job.id,
        status=job.state.value,
        message=f"Queued: {job.params.num_frames} frames at {job.params.width}x{job.params.height}.",
        estimated_time_minutes=await run_in_threadpool(_estimate_minutes, serving, job.params),
    )


def _estimate_minutes(serving: Services, params: GenerationParams) -> float | None:
    seconds = estimate_seconds(params, serving.store.reader.run_times(params.model))
    return None if seconds is None else round(seconds / 60, 3)


def submit_body(serving: Services, body: Body, idempotency_key: str | None, *, seconds: float | None = None) -> Job:
    """Submits the native fields of a body with its files.

    Raises:
        InvalidRequest: naming the field that is wrong.
        JobNotFound: there is no job whose video is to be the input.
        Conflict: it has no video yet.
        IdempotencyConflict: the key came with another request before.
    """
    for name in body.files:
        if name not in _FILES:
            raise InvalidRequest(
                f"There is no file field {name[:80]!r}.",
                code="unknown_field",
                param=name,
                suggestions=[
                    "Send the first frame as image, the last one as end_image, a video to make anew as video."
                ],
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
        fingerprint=submitted.model_dump_json(),
    )


@router.post("/uploads", openapi_extra=describe_body(_UPLOAD_SCHEMA))
async def upload(request: Request, serving: Serving) -> Upload:
    """Keeps an image or a video (multipart `file`) for later requests."""
    body = await read_body(request)
    data = body.files.get("file")
    if data is None:
        raise InvalidRequest("No file was sent.", code="file_required", param="file")
    return Upload.of(await run_in_threadpool(serving.jobs.upload, data), size_bytes=len(data))


@router.get("/generation/{task_id}")
def read_task(task_id: str, serving: Serving) -> TaskInfo:
    """Reads one job."""
    job = serving.store.reader.get(task_id)
    return TaskInfo.of(job, queue_position=serving.store.reader.queue_positions().get(job.id))


@router.get("/generation/{task_id}/preview", response_class=Response)
def read_preview(task_id: str, serving: Serving) -> Response:
    """What a running job is becoming, as an animated WebP; 404 before the first and after the end."""
    job = serving.store.reader.get(task_id)
    content = serving.storage.read_preview(job.id) if job.state is JobState.PROCESSING else None
    if content is None:
        raise NotFound(
            f"There is no preview of {job.id}: it is {job.state}.",
            code="preview_not_found",
            suggestions=["A preview comes with the first step and goes with the end."],
        )
    return Response(content, media_type="image/webp", headers={"Cache-Control": "no-store"})


@router.post("/queue/reorder")
def reorder(order: ReorderRequest, serving: Serving) -> Message:
    """Puts pending jobs into an order: they take each other's places, and the others keep theirs."""
    serving.store.writer.reorder(order.task_ids)
    return Message(message="Reordered.")


@router.get("/queue")
def read_queue(
    serving: Serving,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: str | None = None,
    status: JobState | None = None,
) -> QueueAnswer:
    """Reads how many jobs there are, and a page of them."""
    reader = serving.store.reader
    counts = reader.count()
    positions = reader.queue_positions()
    running = reader.page(states=[JobState.PROCESSING], limit=1, newest_first=False)
    page = reader.page(states=[status] if status else (), after=after, limit=limit)
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
    """Cancels a pending job at once, a running one within a denoising step."""
    job = serving.store.writer.request_cancel(task_id)
    return Message(message="Cancelled." if job.state.ended else "Cancelling: the job stops within a step.")
