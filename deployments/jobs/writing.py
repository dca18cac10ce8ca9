"""Writes to jobs that do not run: submission, cancellation, retries, reordering, deletion.

Each method is one short transaction.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from deployments.jobs.counting import count_change
from deployments.jobs.database import Database
from deployments.jobs.events import EventLog
from deployments.jobs.job import (
    BATCH_ID_PREFIX,
    JOB_ID_PREFIX,
    IdempotencyConflict,
    Job,
    JobEnded,
    JobNotFound,
    JobNotRetryable,
    JobRunning,
    JobState,
    NewJob,
    scheduled_model,
)
from deployments.jobs.limits import UNCHARGED, Account
from deployments.jobs.rows import (
    cancelling_values,
    change_job,
    find_row,
    fold_text,
    is_storable,
    read_batch,
    read_jobs,
    to_job,
)
from deployments.jobs.schema import deleted_jobs, jobs
from deployments.jobs.usage import charge_attempt, check_jobs
from wan22_bridge.types import GenerationParams

_FORGOTTEN_AT_ONCE = 1000
"""Number of places of deleted jobs that one transaction forgets."""
_INSERT = insert(jobs).returning(jobs)
_highest = [select(func.coalesce(func.max(table.c.number), 0)).scalar_subquery() for table in (jobs, deleted_jobs)]
_NEXT_NUMBER = {
    "sqlite": select(func.max(*_highest) + 1),
    "postgresql": select(func.nextval(func.pg_get_serial_sequence("jobs", "number"))),
}


class JobWriter:
    """Writes jobs on behalf of clients. With an `owner`, the jobs of other owners do not exist for a method."""

    def __init__(self, database: Database, events: EventLog, clock: Callable[[], float]) -> None:
        self._database, self._events, self._clock = database, events, clock

    def submit(self, new: NewJob, account: Account = UNCHARGED) -> Job:
        """Stores a pending job. It is on the disk when this returns.

        With an idempotency key that was used before, this stores nothing and returns the earlier job.

        Raises:
            IdempotencyConflict: the key was used before with another request.
            LimitExceeded: the client has reached a limit of the account.
            QueueFull: the queue has too many pending jobs.
        """
        [job] = self.submit_batch([new], account)
        return job

    def submit_batch(self, batch: Sequence[NewJob], account: Account = UNCHARGED) -> list[Job]:
        """Stores the pending jobs of one request, all of them or none. Several jobs get a batch id.

        The idempotency key of the first job stands for all. With a key that was used before, this stores nothing and
        returns the jobs of the earlier request that were not deleted.

        Raises:
            IdempotencyConflict: the key was used before with another request.
            LimitExceeded: the client has reached a limit of the account.
            QueueFull: the queue has too many pending jobs.
        """
        first = batch[0]
        shared = {
            "batch_id": f"{BATCH_ID_PREFIX}{secrets.token_hex(12)}" if len(batch) > 1 else None,
            "created_at": self._clock(),
        }
        rows = [self._new_row(new) | shared for new in batch]
        for row in rows[1:]:
            row["idempotency_key"] = None  # a key is unique, so the first job holds it for all
        try:
            with self._database.writing() as connection:
                stored = [self._insert(connection, row) for row in rows]
                # After the insertion, so that a repeated request is found by its key, and not counted.
                check_jobs(connection, self._database, account, rows[0]["client"], added=len(rows))
                return stored
        except IntegrityError:
            if first.idempotency_key is None:
                raise
            if earlier := self.find_repeated(first.idempotency_key, first.request_hash):
                return earlier
            raise

    def _insert(self, connection: Connection, values: Mapping[str, Any]) -> Job:
        number = _next_number(connection)
        row = connection.execute(_INSERT, {**values, "number": number, "rank": number}).one()
        job = to_job(row)
        self._events.append(connection, job)
        count_change(connection, None, row)
        return job

    def _new_row(self, new: NewJob) -> dict[str, Any]:
        return {
            "id": f"{JOB_ID_PREFIX}{secrets.token_hex(12)}",
            "state": JobState.PENDING,
            "model": scheduled_model(new.params),
            "params": new.params.to_dict(),
            "priority": int(new.priority),
            "metadata": new.metadata,
            "idempotency_key": new.idempotency_key,
            "request_hash": new.request_hash,
            "source_job_id": new.source_job_id,
            "owner": new.owner,
            "client": new.client or new.owner,
            "webhook_url": new.webhook_url,
            "attempt": 0,
            "fencing_token": 0,
            "cancel_requested": False,
            "stage": "queued",
            "progress": 0.0,
            "current_step": 0,
            "total_steps": new.params.steps_to_run,
            "searched_text": _searched_text(new.params),
        }

    def find_repeated(self, idempotency_key: str, request_hash: str) -> list[Job]:
        """Returns the jobs of an earlier request with the same idempotency key; none if there was no such request.

        Raises:
            IdempotencyConflict: the earlier request was another one.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.idempotency_key == idempotency_key)).one_or_none()
            if row is None:
                return []
            found = [to_job(row)] if row.batch_id is None else read_batch(connection, row.batch_id)
        if row.request_hash != request_hash:
            raise IdempotencyConflict(
                "This idempotency key was already used with another request.",
                suggestions=["Use a new key for a new request."],
            ) from None
        return found

    def request_cancel(self, job_id: str, *, owner: str | None = None) -> Job:
        """Cancels a pending job at once, and asks the generator of a running job to stop it.

        Raises:
            JobNotFound: there is no job with this id.
            JobEnded: the job has already ended.
        """
        with self._database.writing() as connection:
            job = to_job(find_row(connection, job_id, lock=True, owner=owner))
            if job.state.ended:
                raise JobEnded(f"The job is already {job.state}.", suggestions=["There is nothing left to cancel."])
            return change_job(connection, self._events, job_id, cancelling_values(job, self._clock()))

    def reorder(self, job_ids: Sequence[str], *, owner: str | None = None) -> None:
        """Reorders pending jobs among the places that they hold now; all other jobs keep their places.

        Ids of jobs that are not pending are ignored. Priorities still come before this order.
        """
        with self._database.writing() as connection:
            asked = [job_id for job_id in job_ids if is_storable(job_id)]
            query = select(jobs).where(jobs.c.state == JobState.PENDING, jobs.c.id.in_(asked)).order_by(jobs.c.number)
            if owner is not None:
                query = query.where(jobs.c.owner == owner)
            found = {job.id: job for job in read_jobs(connection, query.with_for_update())}
            pending = [job_id for job_id in dict.fromkeys(job_ids) if job_id in found]
            places = sorted(job.queue_order for job in found.values())
            moved = {
                job_id: place
                for job_id, place in zip(pending, places, strict=True)
                if found[job_id].queue_order != place
            }
            for job_id, place in moved.items():
                change_job(connection, self._events, job_id, {"rank": place})
            if moved:
                # The states of the jobs stay, so that the events above do not show that the order has changed.
                self._events.append_to_queue(connection, {"reordered": len(moved)}, owner=owner)

    def retry(self, job_id: str, *, owner: str | None = None, account: Account = UNCHARGED) -> Job:
        """Puts a failed or cancelled job back into the queue, with its id, its parameters and its place.

        Raises:
            JobNotFound: there is no job with this id.
            JobNotRetryable: the job has not ended, or it has a video.
            LimitExceeded: the job's client has reached a limit of the account.
            QueueFull: the queue has too many pending jobs.
        """
        with self._database.writing() as connection:
            row = find_row(connection, job_id, lock=True, owner=owner)
            job = to_job(row)
            if job.state not in (JobState.FAILED, JobState.CANCELLED):
                raise JobNotRetryable(
                    f"The job is {job.state}: only a failed or cancelled job can be retried.",
                    suggestions=["Submit the job's parameters again for another video."],
                )
            values = {
                "state": JobState.PENDING,
                "stage": "queued",
                "progress": 0.0,
                "current_step": 0,
                "attempt": 0,
                "saved_steps": 0,
                "progress_attempt": 0,
                "stalled_attempts": 0,
                "cancel_requested": False,
                "hidden": False,
                "started_at": None,
                "completed_at": None,
                "error": None,
            }
            job = change_job(connection, self._events, job_id, values)
            check_jobs(connection, self._database, account, row.client, added=1)
            return job

    def delete(self, job_id: str, *, even_if_running: bool = True, owner: str | None = None) -> None:
        """Deletes a job. The generator of a running job notices the lost claim and stops.

        Its number is remembered, so that a listing that had reached the job can continue from there.

        Raises:
            JobNotFound: there is no job with this id.
            JobRunning: the job is running, and `even_if_running` is false.
        """
        with self._database.writing() as connection:
            row = find_row(connection, job_id, lock=True, owner=owner)
            job = to_job(row)
            if job.state is JobState.PROCESSING and not even_if_running:
                raise JobRunning(
                    "The job is running and can't be deleted.",
                    suggestions=[f"Cancel it first: POST /api/v1/queue/{job.id}/cancel."],
                )
            if row.charged_until is not None:
                charge_attempt(connection, row, self._database.read_now(connection))
            self._delete_row(connection, row, job)

    def delete_ended(self, job_id: str) -> bool:
        """Deletes a job if it has ended, and returns whether it did: a client may have retried or deleted it."""
        return self._delete_if(job_id, lambda job: job.state.ended)

    def delete_due(self, job_id: str) -> bool:
        """Deletes a video whose deletion is due, and returns whether it did: the deletion may be undone by now."""
        return self._delete_if(
            job_id, lambda job: job.deletion_due_at is not None and job.deletion_due_at <= self._clock()
        )

    def _delete_if(self, job_id: str, accepts: Callable[[Job], bool]) -> bool:
        with self._database.writing() as connection:
            try:
                row = find_row(connection, job_id, lock=True)
            except JobNotFound:
                return False
            job = to_job(row)
            accepted = accepts(job)
            if accepted:
                self._delete_row(connection, row, job)
            return accepted

    def _delete_row(self, connection: Connection, row: Row[Any], job: Job) -> None:
        connection.execute(delete(jobs).where(jobs.c.number == job.number))
        self._events.append(connection, job, "deleted")
        count_change(connection, row, None)
        place = {"number": job.number, "id": job.id, "owner": job.owner, "deleted_at": self._clock()}
        connection.execute(insert(deleted_jobs).values(**place))

    def forget_deleted(self, *, older_than_seconds: float) -> None:
        """Forgets the places of jobs that were deleted longer ago than this, in short transactions."""
        before = self._clock() - older_than_seconds
        old = select(deleted_jobs.c.number).where(deleted_jobs.c.deleted_at < before).limit(_FORGOTTEN_AT_ONCE)
        forgotten = _FORGOTTEN_AT_ONCE
        while forgotten == _FORGOTTEN_AT_ONCE:
            with self._database.writing() as connection:
                forgotten = connection.execute(delete(deleted_jobs).where(deleted_jobs.c.number.in_(old))).rowcount


def _searched_text(params: GenerationParams) -> str:
    prompts = dict.fromkeys([params.prompt, *(segment.prompt for segment in params.segments)])
    return fold_text(" ".join(prompts))


def _next_number(connection: Connection) -> int:
    """Returns the serial number of the next job. A deleted job's number is not used again.

    The insertion needs the number in advance, because it is also the job's place in the queue.
    """
    return int(connection.execute(_NEXT_NUMBER[connection.dialect.name]).scalar_one())
