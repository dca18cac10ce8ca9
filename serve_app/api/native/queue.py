"""The native API's routes for the queue."""

import time
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from deployments.jobs.job import JobState
from serve_app.api.access.callers import NEEDS_ADMIN, Caller, Reading, Submitting
from serve_app.api.http.conditions import is_known
from serve_app.api.schemas.tasks import (
    ClearAnswer,
    Message,
    PauseAnswer,
    PollAnswer,
    QueueAnswer,
    ReorderRequest,
    TaskInfo,
)
from serve_app.api.services import Services, Serving

# The routes that clients poll are coroutines with `Services.read`, because FastAPI uses two threads for a function: one
# to run it, and one to validate what it returns.
router = APIRouter(prefix="/api/v1/queue", tags=["queue"])

_NOTED_JOBS = 100
"""Maximum number of ids of reordered jobs in the audit log."""
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("")
async def read_queue(
    serving: Serving,
    caller: Reading,
    limit: Limit = 100,
    after: str | None = None,
    status: Annotated[tuple[JobState, ...], Query()] = (),
) -> QueueAnswer:
    """Returns the number of jobs in each state, and a page of jobs, newest first. Cleared jobs are left out.

    `status` may be repeated: `?status=failed&status=cancelled` lists the jobs in either state. `after` is the id of the
    last job of the previous page. The page continues there even if that job was deleted.
    """
    page = serving.store.queue.page
    return await serving.read(
        lambda: QueueAnswer.of(page(states=status, after=after, limit=limit, owner=caller.only)), rows=limit
    )


@router.get(
    "/poll",
    response_model=PollAnswer,
    responses={HTTPStatus.NOT_MODIFIED: {"description": "Nothing has changed since the response with this ETag."}},
)
async def poll_queue(
    serving: Serving,
    caller: Reading,
    response: Response,
    active_only: bool = True,
    limit: Limit = 100,
    if_none_match: Annotated[str | None, Header()] = None,
) -> PollAnswer | Response:
    """Returns the running jobs, and then the pending jobs in the order in which they are queued.

    With `active_only=false`, returns the newest jobs in every state, as `GET /queue` does. A client that sends the
    `ETag` of its last response as `If-None-Match` gets 304 without a body until a job or the queue changes.
    """
    return await serving.read(lambda: _poll(serving, caller, response, active_only, limit, if_none_match), rows=limit)


def _poll(
    serving: Services, caller: Caller, response: Response, active_only: bool, limit: int, if_none_match: str | None
) -> PollAnswer | Response:
    # The tag is read first: a change in between makes it too old, and the next poll gets a body once more.
    version = "-".join([str(serving.store.events.last_sequence()), *([caller.key_id] if caller.key_id else [])])
    headers = {"etag": f'W/"{version}"', "cache-control": "private, no-cache"}
    if is_known(headers["etag"], if_none_match):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    response.headers.update(headers)
    queue = serving.store.queue
    page = (queue.active if active_only else queue.page)(limit=limit, owner=caller.only)
    return PollAnswer.of(page, timestamp=time.time())


@router.post("/reorder")
def reorder_queue(order: ReorderRequest, serving: Serving, caller: Submitting) -> Message:
    """Changes the order of pending jobs. They exchange their places; all other jobs keep theirs."""
    caller.notes["jobs"] = order.task_ids[:_NOTED_JOBS]
    serving.store.writer.reorder(order.task_ids, owner=caller.only)
    return Message(message="Reordered.")


@router.post("/clear")
def clear_queue(serving: Serving, caller: Submitting) -> ClearAnswer:
    """Removes all ended jobs from the queue's listings.

    It deletes nothing: `GET /generation/{id}`, `/outputs` and `/v1/videos` still have the jobs and their videos.
    """
    count = serving.store.queue.clear(owner=caller.only)
    caller.notes["jobs"] = count
    return ClearAnswer(message=f"Ended jobs removed from the list: {count}. Their videos stay.", cleared=count)


@router.post("/pause", dependencies=[NEEDS_ADMIN])
def pause_queue(serving: Serving) -> PauseAnswer:
    """Pauses the queue: running jobs continue, and no other job begins until `POST /queue/resume`.

    New jobs are accepted meanwhile. The queue stays paused when the service restarts.
    """
    serving.store.queue.set_paused(True)
    return PauseAnswer(paused=True)


@router.post("/resume", dependencies=[NEEDS_ADMIN])
def resume_queue(serving: Serving) -> PauseAnswer:
    """Resumes a paused queue. Does nothing if the queue is not paused."""
    serving.store.queue.set_paused(False)
    return PauseAnswer(paused=False)


@router.post("/{task_id}/cancel")
def cancel_task(task_id: str, serving: Serving, caller: Submitting) -> Message:
    """Cancels a job: a pending job at once, a running job within one denoising step."""
    job = serving.store.writer.request_cancel(task_id, owner=caller.only)
    return Message(message="Cancelled." if job.state.ended else "Cancelling: the job stops within one denoising step.")


@router.post("/{task_id}/retry")
async def retry_task(task_id: str, serving: Serving, caller: Submitting) -> TaskInfo:
    """Puts a failed or cancelled job back into the queue, with its id, its parameters and its place."""
    await serving.use_storage(serving.jobs.retry, task_id, owner=caller.only, account=caller.account)
    job, position = await serving.read(lambda: serving.store.queue.find(task_id, owner=caller.only))
    return TaskInfo.of(job, queue_position=position)


@router.delete("/{task_id}")
async def delete_task(task_id: str, serving: Serving, caller: Submitting) -> Message:
    """Deletes a job and its video. Responds 409 while the job runs."""
    await serving.use_storage(serving.jobs.delete, task_id, even_if_running=False, owner=caller.only)
    return Message(message="Deleted.")
