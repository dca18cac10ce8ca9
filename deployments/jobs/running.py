"""Claims of jobs: taking one, renewing its lease, reporting progress, and ending it.

The dispatcher holds a lease and a fencing token for each job that it runs. A write with an older token, or after the
job's end, raises LeaseLost and changes nothing. Each method is one short transaction.

The time for which a generator works is charged to the job's client when the lease is renewed and when the attempt ends.
It begins with the first progress. A dispatcher that dies leaves the time since its last renewal uncharged.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from deployments.jobs.attempts import Interruption, count_stalled, find_error
from deployments.jobs.database import Database
from deployments.jobs.events import EventLog
from deployments.jobs.job import Job, JobState, LeaseLost
from deployments.jobs.rows import change_job, ended_values, mock_values, pending_values, read_jobs, to_job
from deployments.jobs.schema import jobs
from deployments.jobs.usage import charge_attempt
from wan22_bridge.types import Progress, Stage


class JobRunner:
    """Writes what happens to running jobs."""

    def __init__(self, database: Database, events: EventLog, clock: Callable[[], float]) -> None:
        self._database, self._events, self._clock = database, events, clock

    def claim(self, job_id: str, *, lease_seconds: float) -> Job | None:
        """Claims a pending job under a new fencing token; returns None if the job is no longer pending."""
        with self._database.writing() as connection:
            now = self._clock()
            pending = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.state == JobState.PENDING)
            if connection.execute(pending.with_for_update()).one_or_none() is None:
                return None
            values = {
                "state": JobState.PROCESSING,
                "stage": Stage.LOADING_MODEL.value,
                "attempt": jobs.c.attempt + 1,
                "fencing_token": jobs.c.fencing_token + 1,
                "lease_expires_at": self._database.now() + lease_seconds,
                "progress": 0.0,
                "eta_seconds": None,
                "started_at": func.coalesce(jobs.c.started_at, now),
            }
            return change_job(connection, self._events, job_id, values)

    def renew(self, job_id: str, fencing_token: int, lease_seconds: float) -> Job:
        """Renews the lease of a running job and returns the job.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        with self._database.writing() as connection:
            row, now = _held_row(connection, job_id, fencing_token), self._database.read_now(connection)
            values = {"lease_expires_at": now + lease_seconds}
            if row.charged_until is not None:
                charge_attempt(connection, row, now)
                values["charged_until"] = now
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            return to_job(row)

    def record_progress(self, job_id: str, fencing_token: int, progress: Progress) -> None:
        """Writes the progress of a running job.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        values: dict[str, Any] = {
            "stage": progress.stage.value,
            "progress": progress.percent,
            "current_step": progress.current_step,
            "total_steps": progress.total_steps,
            "eta_seconds": progress.eta_seconds,
        }
        with self._database.writing() as connection:
            row = _held_row(connection, job_id, fencing_token)
            if row.charged_until is None:
                values |= {"charged_until": self._database.now()}
            if progress.saved_steps > row.saved_steps:
                values |= {"saved_steps": progress.saved_steps}
                values |= {"progress_attempt": row.attempt, "stalled_attempts": 0}
            change_job(connection, self._events, job_id, values)

    def request_preemption(self, job_id: str, fencing_token: int) -> None:
        """Asks the generator of a running job to checkpoint the job and give up its slot.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        with self._database.writing() as connection:
            _held_row(connection, job_id, fencing_token)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(yield_token=fencing_token))

    def complete(self, job_id: str, fencing_token: int, *, output: dict[str, Any], result: dict[str, Any]) -> Job:
        """Ends a running job with its video.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        values = {"progress": 100.0, "output": output, "result": result}
        return self._end(job_id, fencing_token, JobState.COMPLETED, values)

    def fail(self, job_id: str, fencing_token: int, error: Mapping[str, Any]) -> Job:
        """Ends a running job with an error, in the form of the API's inner error object.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        return self._end(job_id, fencing_token, JobState.FAILED, {"error": dict(error)})

    def mark_cancelled(self, job_id: str, fencing_token: int) -> Job:
        """Ends a running job that has stopped because a client cancelled it.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        return self._end(job_id, fencing_token, JobState.CANCELLED, {})

    def release(self, job_id: str, fencing_token: int) -> Job:
        """Puts a running job back into the queue without counting an attempt. A cancelled job ends instead.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        return self._put_back(job_id, fencing_token, lambda job: pending_values(job, count_attempt=False))

    def give_back(
        self, job_id: str, fencing_token: int, how: Interruption, *, max_attempts: int
    ) -> dict[str, Any] | None:
        """Puts an interrupted job back into the queue, unless it was interrupted once too often.

        A job that a client has cancelled ends instead.

        Args:
            job_id: id of the job.
            fencing_token: token of the claim.
            how: the reason of the interruption.
            max_attempts: number of failed attempts without progress after which the job gets no further attempt.

        Returns:
            None; or the error with which the caller must end the job, which then still runs.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        with self._database.writing() as connection:
            job = self._end_attempt(connection, job_id, fencing_token)
            if job.cancel_requested:
                values = ended_values(JobState.CANCELLED, self._clock())
            elif (error := find_error(job, how, max_attempts)) is not None:
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(charged_until=None))
                return error
            else:
                values = _interrupted_values(job, how)
            change_job(connection, self._events, job_id, values)
            return None

    def mock(self, job_id: str, fencing_token: int, reason: str) -> Job:
        """Puts a running job that would fail back into the queue as a mock job. A cancelled job ends instead.

        Args:
            job_id: id of the job.
            fencing_token: token of the claim.
            reason: message of the error with which the job would have failed.

        Raises:
            LeaseLost: the claim no longer holds the job.
        """
        return self._put_back(job_id, fencing_token, lambda job: mock_values(job, reason))

    def _put_back(self, job_id: str, fencing_token: int, values: Callable[[Job], dict[str, Any]]) -> Job:
        """Puts a running job back into the queue with these values, or ends it if a client has cancelled it."""
        with self._database.writing() as connection:
            job = self._end_attempt(connection, job_id, fencing_token)
            ended = ended_values(JobState.CANCELLED, self._clock())
            changed = ended if job.cancel_requested else values(job)
            return change_job(connection, self._events, job_id, changed)

    def reclaim_expired(self, *, max_attempts: int) -> list[Job]:
        """Puts the jobs with an expired lease back into the queue, because their dispatcher is dead.

        A job that a client has cancelled ends instead, and a job that was interrupted once too often fails.

        Args:
            max_attempts: number of failed attempts without progress after which a job fails.

        Returns:
            The changed jobs.
        """
        with self._database.writing() as connection:
            now = self._clock()
            expired = select(jobs).where(
                jobs.c.state == JobState.PROCESSING, jobs.c.lease_expires_at < self._database.now()
            )
            changed = []
            for job in read_jobs(connection, expired.with_for_update(skip_locked=True)):
                if job.cancel_requested:
                    values = ended_values(JobState.CANCELLED, now)
                elif (error := find_error(job, Interruption.LEASE_EXPIRED, max_attempts)) is not None:
                    values = ended_values(JobState.FAILED, now) | {"error": error}
                else:
                    values = _interrupted_values(job, Interruption.LEASE_EXPIRED)
                changed.append(change_job(connection, self._events, job.id, values))
            return changed

    def _end(self, job_id: str, fencing_token: int, state: JobState, values: Mapping[str, Any]) -> Job:
        with self._database.writing() as connection:
            self._end_attempt(connection, job_id, fencing_token)
            return change_job(connection, self._events, job_id, {**ended_values(state, self._clock()), **values})

    def _end_attempt(self, connection: Connection, job_id: str, fencing_token: int) -> Job:
        """Locks and returns a running job, and charges the rest of its attempt, which the caller then ends."""
        row = _held_row(connection, job_id, fencing_token)
        if row.charged_until is not None:
            charge_attempt(connection, row, self._database.read_now(connection))
        return to_job(row)


def _interrupted_values(job: Job, how: Interruption) -> dict[str, Any]:
    return pending_values(job, count_attempt=True) | {"stalled_attempts": count_stalled(job, how)}


def _held_row(connection: Connection, job_id: str, fencing_token: int) -> Row[Any]:
    """Locks and returns the row of a running job; raises LeaseLost unless the claim with this token holds the job."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None or row.state != JobState.PROCESSING or row.fencing_token != fencing_token:
        raise LeaseLost
    return row
