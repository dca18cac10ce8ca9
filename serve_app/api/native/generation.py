"""The native API's routes for one job: submission, status and previews."""

from fastapi import APIRouter, Request, Response

from deployments.jobs.job import JobState, Priority
from deployments.scheduling.costs import estimate_seconds, estimate_wait
from serve_app.api.access.callers import Caller, Reading, Submitting
from serve_app.api.files import describe_media
from serve_app.api.http.bodies import Body, read_body
from serve_app.api.schemas.estimates import Estimate
from serve_app.api.schemas.submissions import SubmitAnswer
from serve_app.api.schemas.tasks import TaskInfo
from serve_app.api.services import Services, Serving
from serve_app.api.submission import (
    SUBMIT_FILES,
    SUBMIT_SCHEMA,
    IdempotencyKey,
    describe_body,
    resolve_body,
    run_submission,
    submit_body,
)
from wan22_bridge.errors import NotFound
from wan22_bridge.types import GenerationParams

router = APIRouter(prefix="/api/v1/generation", tags=["generation"])

_MOCK_SECONDS = 1.0
"""Estimated time to make a mock video."""
_MAX_WAITED = 1000
"""Number of pending jobs up to which a waiting time is estimated."""


@router.post(
    "/submit",
    openapi_extra=describe_body(
        SUBMIT_SCHEMA | {"properties": SUBMIT_SCHEMA["properties"] | SUBMIT_FILES}, json=SUBMIT_SCHEMA
    ),
)
async def submit_task(
    request: Request, serving: Serving, caller: Submitting, idempotency_key: IdempotencyKey
) -> SubmitAnswer:
    """Submits a job. The job is stored durably before the response is sent.

    With `num_outputs` or `seeds`, submits several jobs as one batch: all of them or none. With an `Idempotency-Key`
    header, a repeated request returns the first request's job or batch.
    """
    body = await read_body(request)
    return await run_submission(_submit, serving, caller, body, idempotency_key)


def _submit(serving: Services, caller: Caller, body: Body, idempotency_key: str | None) -> SubmitAnswer:
    jobs = submit_body(serving, caller, body, idempotency_key)
    return SubmitAnswer.of(jobs, estimated_seconds=_estimate_seconds(serving, jobs[0].params))


@router.post(
    "/estimate",
    openapi_extra=describe_body(
        SUBMIT_SCHEMA | {"properties": SUBMIT_SCHEMA["properties"] | SUBMIT_FILES}, json=SUBMIT_SCHEMA
    ),
)
async def estimate_task(request: Request, serving: Serving, caller: Submitting) -> Estimate:
    """Estimates a job from the fields of a submission, and stores nothing.

    The answer says how long the video takes, when it would start, how much memory it needs, and what would fit if it
    does not.
    """
    body = await read_body(request)
    return await run_submission(_estimate, serving, caller, body)


def _estimate(serving: Services, caller: Caller, body: Body) -> Estimate:
    params, priority, num_outputs = resolve_body(serving, caller, body)
    fit = serving.fitting.check(params)
    seconds = _estimate_seconds(serving, params)
    return Estimate(
        num_outputs=num_outputs,
        estimated_seconds=None if seconds is None else seconds * num_outputs,
        queue_position=serving.store.queue.next_position(priority),
        wait_seconds=_estimate_wait(serving, priority),
        peak_memory_mb=None if fit.peak_bytes is None else fit.peak_bytes / 1e6,
        plan=fit.plan,
        fits=fit.fits,
        reasons=fit.reasons,
        suggestions=fit.suggestions,
    )


def _estimate_wait(serving: Services, priority: Priority) -> float | None:
    """Returns the time until a new job would start; None if it is unknown, or if the queue is paused."""
    if serving.store.queue.is_paused():
        return None
    models = [spec.id for spec in serving.served]
    pending = [job for job in serving.store.reader.next_pending(models, limit=_MAX_WAITED) if job.priority >= priority]
    running = serving.store.reader.page(states=[JobState.PROCESSING], limit=_MAX_WAITED)
    ahead = [_estimate_seconds(serving, job.params) for job in pending]
    remaining = [
        _estimate_seconds(serving, job.params) if job.eta_seconds is None else job.eta_seconds for job in running
    ]
    if None in ahead or None in remaining or len(pending) == _MAX_WAITED:
        return None
    workers = max(1, len(serving.replicas.all()))
    return estimate_wait(
        [seconds for seconds in ahead if seconds is not None],
        [seconds for seconds in remaining if seconds is not None],
        workers,
    )


def _estimate_seconds(serving: Services, params: GenerationParams) -> float | None:
    if params.is_mock:
        return _MOCK_SECONDS
    return estimate_seconds(params, serving.store.reader.run_times(params.model))


@router.get("/{task_id}")
async def read_task(task_id: str, serving: Serving, caller: Reading) -> TaskInfo:
    """Returns a job."""
    job, position = await serving.read(lambda: serving.store.queue.find(task_id, owner=caller.only))
    return TaskInfo.of(job, queue_position=position)


@router.get("/{task_id}/preview", response_class=Response, responses=describe_media("image/webp"))
async def read_preview(task_id: str, serving: Serving, caller: Reading) -> Response:
    """Returns the newest live preview of a running job, an animated WebP.

    Responds 404 before the first preview, and once the job has ended.
    """
    job = await serving.read(lambda: serving.store.reader.get(task_id, owner=caller.only))
    is_running = job.state is JobState.PROCESSING
    content = await serving.use_storage(serving.storage.read_preview, job.id) if is_running else None
    if content is None:
        raise NotFound(
            f"{job.id} has no preview: the job is {job.state}.",
            code="preview_not_found",
            suggestions=["Previews exist from a running job's first step until its end."],
        )
    return Response(content, media_type="image/webp", headers={"Cache-Control": "no-store"})
