"""The native API's routes for the queue."""

from typing import Annotated

from fastapi import APIRouter, Query

from deployments.jobs.job import JobState
from serve_app.api.schemas.tasks import Message, QueueAnswer, ReorderRequest, TaskInfo
from serve_app.api.services import Serving

router = APIRouter(prefix="/api/v1/queue", tags=["queue"])


@router.post("/reorder")
def reorder_queue(order: ReorderRequest, serving: Serving) -> Message:
    """Changes the order of pending jobs. They exchange their places; all other jobs keep theirs."""
    serving.store.writer.reorder(order.task_ids)
    return Message(message="Reordered.")


@router.get("")
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


@router.post("/{task_id}/cancel")
def cancel_task(task_id: str, serving: Serving) -> Message:
    """Cancels a job: a pending job at once, a running job within one denoising step."""
    job = serving.store.writer.request_cancel(task_id)
    return Message(message="Cancelled." if job.state.ended else "Cancelling: the job stops within one denoising step.")
