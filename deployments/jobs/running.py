"""Running jobs: what the dispatcher and the generators write. Each method is one short transaction.

Who runs a job holds its lease and a fencing token; a write with an older token, or after the job's end, raises
LeaseLost and changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, func, select, update

from deployments.jobs.events import EventLog
from deployments.jobs.job import Job, JobState, LeaseLost
from deployments.jobs.reading import JobReader, to_job, to_jobs
from deployments.jobs.schema import jobs
from wan22_bridge.types import Progress, Stage


class JobRunner(JobReader):
    """Jobs as those see them who run them."""

    events: EventLog
    _clock: Callable[[], float]

    def claim(self, job_id: str, *, lease_seconds: float) -> Job | None:
        """Takes a pending job under a new fencing token; None if it is no longer pending."""
        with self.database.writing() as connection:
            now = self._clock()
            row = connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.state == JobState.PENDING)
                .values(
                    state=JobState.PROCESSING,
                    stage=Stage.LOADING_MODEL.value,
                    attempt=jobs.c.attempt + 1,
                    fencing_token=jobs.c.fencing_token + 1,
                    lease_expires_at=now + lease_seconds,
                    progress=0.0,
                    eta_seconds=None,
                    started_at=func.coalesce(jobs.c.started_at, now),
                )
                .returning(jobs)
            ).one_or_none()
            if row is None:
                return None
            job = to_job(row)
            self.events.append(connection, job)
            return job

    def renew(self, job_id: str, fencing_token: int, lease_seconds: float) -> Job:
        """Keeps the lease of a running job, and reads the job.

        Raises:
            LeaseLost: it is no longer this claim's.
        """
        with self.database.writing() as connection:
            job = self._held(connection, job_id, fencing_token)
            connection.execute(
                update(jobs).where(jobs.c.id == job_id).values(lease_expires_at=self._clock() + lease_seconds)
            )
            return job

    def record_progress(self, job_id: str, fencing_token: int, progress: Progress) -> None:
        """Writes how far a running job is.

        Raises:
            LeaseLost: it is no longer this claim's.
        """
        with self.database.writing() as connection:
            self._held(connection, job_id, fencing_token)
            self._change(
                connection,
                job_id,
                stage=progress.stage.value,
                progress=progress.percent,
                current_step=progress.current_step,
                total_steps=progress.total_steps,
                eta_seconds=progress.eta_seconds,
            )

    def complete(self, job_id: str, fencing_token: int, *, output: dict[str, Any], result: dict[str, Any]) -> Job:
        """Ends a running job with its video.

        Raises:
            LeaseLost: it is no longer this claim's.
        """
        return self._end(job_id, fencing_token, JobState.COMPLETED, progress=100.0, output=output, result=result)

    def fail(self, job_id: str, fencing_token: int, error: Mapping[str, Any]) -> Job:
        """Ends a running job with an error, the inner object of the interface's error body.

        Raises:
            LeaseLost: it is no longer this claim's.
        """
        return self._end(job_id, fencing_token, JobState.FAILED, error=dict(error))

    def mark_cancelled(self, job_id: str, fencing_token: int) -> Job:
        """Ends a running job that has stopped because it was asked to.

        Raises:
            LeaseLost: it is no longer this claim's.
        """
        return self._end(job_id, fencing_token, JobState.CANCELLED)

    def ask_to_yield(self, job_id: str, fencing_token: int) -> None:
        """Has a running job stopped by who runs it, as it is kept, and released.

        Raises:
            LeaseLost: it is no longer this claim's.
        """
        with self.database.writing() as connection:
            self._held(connection, job_id, fencing_token)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(yield_token=fencing_token))

    def release(self, job_id: str, fencing_token: int, count_attempt: bool) -> Job:
        """Gives a running job back to the queue; if it was asked to stop, it is cancelled instead.

        Raises:
            LeaseLost: it is no longer this claim's.
        """
        with self.database.writing() as connection:
            job = self._held(connection, job_id, fencing_token)
            if job.cancel_requested:
                return self._change(connection, job_id, **ended_values(JobState.CANCELLED, self._clock()))
            return self._change(connection, job_id, **_pending_again(job, count_attempt))

    def reclaim_expired(self, *, max_attempts: int, error: Mapping[str, Any]) -> list[Job]:
        """Puts the jobs whose lease ran out, their runner being dead, back into the queue.

        A job that was begun `max_attempts` times fails with `error` instead; one that was asked to stop is cancelled.
        """
        with self.database.writing() as connection:
            now = self._clock()
            expired = select(jobs).where(jobs.c.state == JobState.PROCESSING, jobs.c.lease_expires_at < now)
            changed = []
            for job in to_jobs(connection, expired.with_for_update(skip_locked=True)):
                values = _pending_again(job, count_attempt=True)
                if job.cancel_requested:
                    values = ended_values(JobState.CANCELLED, now)
                elif job.attempt >= max_attempts:
                    values = ended_values(JobState.FAILED, now) | {"error": dict(error)}
                changed.append(self._change(connection, job.id, **values))
            return changed

    # Inside a transaction.

    def _held(self, connection: Connection, job_id: str, fencing_token: int) -> Job:
        """The running job, locked, if the claim with this token still holds it."""
        row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
        if row is None or row.state != JobState.PROCESSING or row.fencing_token != fencing_token:
            raise LeaseLost
        return to_job(row)

    def _end(self, job_id: str, fencing_token: int, state: JobState, **values: Any) -> Job:
        with self.database.writing() as connection:
            self._held(connection, job_id, fencing_token)
            return self._change(connection, job_id, **ended_values(state, self._clock()), **values)

    def _change(self, connection: Connection, job_id: str, **values: Any) -> Job:
        """Writes values and the event that tells of them."""
        row = connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values).returning(jobs)).one()
        job = to_job(row)
        self.events.append(connection, job)
        return job


def ended_values(state: JobState, now: float) -> dict[str, Any]:
    return {
        "state": state,
        "stage": state.value,
        "completed_at": now,
        "lease_expires_at": None,
        "eta_seconds": None,
        "cancel_requested": state is JobState.CANCELLED,
    }


def _pending_again(job: Job, count_attempt: bool) -> dict[str, Any]:
    return {
        "state": JobState.PENDING,
        "stage": "queued",
        "progress": 0.0,
        "current_step": 0,
        "eta_seconds": None,
        "lease_expires_at": None,
        "attempt": job.attempt if count_attempt else job.attempt - 1,
    }
