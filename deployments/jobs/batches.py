"""Batches: the jobs that one request made, read and cancelled together."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from sqlalchemy import Connection, select

from deployments.jobs.database import Database
from deployments.jobs.events import EventLog
from deployments.jobs.job import BatchEnded, BatchNotFound, Job, JobState
from deployments.jobs.queue import read_positions
from deployments.jobs.rows import cancelling_values, change_job, is_storable, read_batch, read_jobs
from deployments.jobs.schema import jobs


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """The jobs of a batch that were not deleted, at one moment."""

    id: str
    jobs: list[Job]
    """At least one job, in the order of submission."""
    positions: dict[str, int]
    """Queue position of each pending job by its id; 1 is the next job."""

    @property
    def counts(self) -> Counter[JobState]:
        """Number of jobs in each state."""
        return Counter(job.state for job in self.jobs)

    @property
    def state(self) -> JobState:
        """The state of the whole batch.

        While a job is pending or running, the batch is processing if any job is running, completed or failed, and
        pending otherwise. Once all jobs have ended, it is failed if any job failed, else cancelled if any was
        cancelled, else completed.
        """
        counts = self.counts
        if any(not state.ended for state in counts):
            begun = counts[JobState.PROCESSING] or counts[JobState.COMPLETED] or counts[JobState.FAILED]
            return JobState.PROCESSING if begun else JobState.PENDING
        return next(state for state in (JobState.FAILED, JobState.CANCELLED, JobState.COMPLETED) if counts[state])

    @property
    def progress(self) -> float:
        """Mean progress of the jobs in percent."""
        return fmean(job.progress for job in self.jobs)


class JobBatches:
    """Reads and cancels batches. Each method is one short transaction.

    With an `owner`, the batches of other owners do not exist for a method.
    """

    def __init__(self, database: Database, events: EventLog, clock: Callable[[], float]) -> None:
        self._database, self._events, self._clock = database, events, clock

    def find(self, batch_id: str, *, owner: str | None = None) -> Batch:
        """Returns a batch, with the jobs that are hidden from the queue.

        Raises:
            BatchNotFound: no job has this batch id.
        """
        with self._database.reading() as connection:
            found = _read(connection, batch_id, owner)
            positions = read_positions(connection, found)
        return _batch_of(batch_id, found, positions)

    def request_cancel(self, batch_id: str, *, owner: str | None = None) -> Batch:
        """Cancels the pending jobs of a batch at once, and asks the generators of the running ones to stop them.

        Raises:
            BatchNotFound: no job has this batch id.
            BatchEnded: all jobs of the batch have already ended.
        """
        with self._database.writing() as connection:
            # All rows are locked before the first change, in the order of `rows.py`: no deadlocks.
            is_open = jobs.c.state.in_([state for state in JobState if not state.ended])
            query = select(jobs).where(jobs.c.batch_id == batch_id, is_open).order_by(jobs.c.number)
            if owner is not None:
                query = query.where(jobs.c.owner == owner)
            to_cancel = read_jobs(connection, query.with_for_update()) if is_storable(batch_id) else []
            now = self._clock()
            for job in to_cancel:
                change_job(connection, self._events, job.id, cancelling_values(job, now))
            found = _read(connection, batch_id, owner)
        batch = _batch_of(batch_id, found, {})  # none of its jobs is pending now
        if not to_cancel:
            raise BatchEnded(
                f"All jobs of the batch have ended: it is {batch.state}.",
                suggestions=["There is nothing left to cancel."],
            )
        return batch


def _read(connection: Connection, batch_id: str, owner: str | None) -> list[Job]:
    found = read_batch(connection, batch_id) if is_storable(batch_id) else []
    return [job for job in found if owner in (None, job.owner)]


def _batch_of(batch_id: str, found: list[Job], positions: dict[str, int]) -> Batch:
    if not found:
        raise BatchNotFound(
            f"There is no batch {batch_id[:80]!r}.",
            suggestions=["Send the batch_id of a job. A batch is gone once all of its jobs are deleted."],
        )
    return Batch(id=batch_id, jobs=found, positions=positions)
