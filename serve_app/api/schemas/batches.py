"""Body of the native API's responses about a batch."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from deployments.jobs.batches import Batch
from deployments.jobs.job import JobState
from serve_app.api.schemas.links import to_datetime
from serve_app.api.schemas.tasks import TaskInfo


class BatchInfo(BaseModel):
    """The jobs that one request made. A deleted job is not among them; a job that was cleared from the queue is."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    status: Literal["pending", "processing", "completed", "failed", "cancelled"]
    """`pending` until a job begins, then `processing` until all jobs have ended. At the end `failed` if any job failed,
    else `cancelled` if any was cancelled, else `completed`: then every job has a video."""
    total: int
    """Number of jobs."""
    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    progress: float
    """Mean progress of the jobs in percent. A failed or cancelled job keeps the progress at which it ended."""
    created_at: datetime
    tasks: list[TaskInfo]
    """The jobs, in the order of their seeds."""

    @classmethod
    def of(cls, batch: Batch) -> "BatchInfo":
        """Describes a batch."""
        counts = batch.counts
        return cls(
            id=batch.id,
            status=batch.state.value,
            total=len(batch.jobs),
            pending=counts[JobState.PENDING],
            processing=counts[JobState.PROCESSING],
            completed=counts[JobState.COMPLETED],
            failed=counts[JobState.FAILED],
            cancelled=counts[JobState.CANCELLED],
            progress=batch.progress,
            created_at=to_datetime(batch.jobs[0].created_at),
            tasks=[TaskInfo.of(job, queue_position=batch.positions.get(job.id)) for job in batch.jobs],
        )
