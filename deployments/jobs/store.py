"""The job store, which is the truth about jobs: what clients write. Each method is one short transaction."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from deployments.jobs.database import Database
from deployments.jobs.events import EventLog
from deployments.jobs.job import (
    JOB_ID_PREFIX,
    IdempotencyConflict,
    Job,
    JobEnded,
    JobState,
    NewJob,
)
from deployments.jobs.reading import one_row, to_job, to_jobs
from deployments.jobs.running import JobRunner, ended_values
from deployments.jobs.schema import jobs
from wan22_bridge.types import Progress


class JobStore(JobRunner):
    """Jobs and their events in SQLite or PostgreSQL."""

    def __init__(self, url: str, *, migrate: bool = True, clock: Callable[[], float] = time.time) -> None:
        """Opens the database.

        Args:
            url: `sqlite:///PATH` or `postgresql://…`.
            migrate: brings the schema up to date; without it nothing connects yet.
            clock: seconds since the epoch.

        Raises:
            ConfigurationError: the URL is not of a supported database.
        """
        self.database = Database(url, migrate=migrate)
        self.events = EventLog(self.database, clock)
        self._clock = clock

    def submit(self, new: NewJob) -> Job:
        """Stores a pending job. It is on the disk when this returns.

        With an idempotency key that was used before, the job of then is returned.

        Raises:
            IdempotencyConflict: the key came with another request then.
        """
        try:
            with self.database.writing() as connection:
                now = self._clock()
                row = connection.execute(
                    insert(jobs)
                    .values(
                        id=f"{JOB_ID_PREFIX}{secrets.token_hex(12)}",
                        state=JobState.PENDING,
                        model=new.params.model,
                        params=new.params.to_dict(),
                        priority=int(new.priority),
                        metadata=new.metadata,
                        idempotency_key=new.idempotency_key,
                        request_hash=new.request_hash,
                        source_job_id=new.source_job_id,
                        owner=new.owner,
                        attempt=0,
                        fencing_token=0,
                        cancel_requested=False,
                        stage="queued",
                        progress=0.0,
                        current_step=0,
                        total_steps=new.params.steps_to_run,
                        created_at=now,
                    )
                    .returning(jobs)
                ).one()
                job = to_job(row)
                self.events.append(connection, job)
                return job
        except IntegrityError:
            if new.idempotency_key is None:
                raise
            with self.database.reading() as connection:
                row = connection.execute(select(jobs).where(jobs.c.idempotency_key == new.idempotency_key)).one()
            if row.request_hash != new.request_hash:
                raise IdempotencyConflict(
                    "This idempotency key was used with another request.",
                    suggestions=["Use a new key for a new request."],
                ) from None
            return to_job(row)

    def request_cancel(self, job_id: str) -> Job:
        """Cancels a pending job at once; asks the one who runs it to stop a processing job.

        Raises:
            JobNotFound: there is no such job.
            JobEnded: it is already over.
        """
        with self.database.writing() as connection:
            job = to_job(one_row(connection, job_id, lock=True))
            if job.state.ended:
                raise JobEnded(f"The job is already {job.state}.", suggestions=["There is nothing left to cancel."])
            if job.state is JobState.PENDING:
                return self._change(connection, job_id, **ended_values(JobState.CANCELLED, self._clock()))
            return self._change(connection, job_id, cancel_requested=True)

    def reorder(self, job_ids: Sequence[str]) -> None:
        """Puts pending jobs into an order: they take each other's places, and the others keep theirs.

        A job that is no longer pending is passed over. A higher priority goes first all the same.
        """
        with self.database.writing() as connection:
            asked = [job_id for job_id in job_ids if "\x00" not in job_id]  # which PostgreSQL refuses to compare with
            query = select(jobs).where(jobs.c.state == JobState.PENDING, jobs.c.id.in_(asked))
            found = {job.id: job for job in to_jobs(connection, query.with_for_update())}
            pending = [job_id for job_id in dict.fromkeys(job_ids) if job_id in found]
            for job_id, rank in zip(pending, sorted(job.rank for job in found.values()), strict=True):
                if found[job_id].rank != rank:
                    self._change(connection, job_id, rank=rank)

    def delete(self, job_id: str) -> None:
        """Removes a job. Whoever runs it finds its lease lost and stops.

        Raises:
            JobNotFound: there is no such job.
        """
        with self.database.writing() as connection:
            job = to_job(one_row(connection, job_id, lock=True))
            connection.execute(delete(jobs).where(jobs.c.number == job.number))
            self.events.append(connection, job, "deleted")

    def note_fetch(self, model: str, progress: Progress) -> None:
        """Writes on the pending jobs of a model how far it is fetched."""
        values = {"stage": progress.stage.value, "progress": progress.percent, "eta_seconds": progress.eta_seconds}
        self._change_pending(model, values)

    def note_fetched(self, model: str) -> None:
        """Has the pending jobs of a model wait for a generator again."""
        self._change_pending(model, {"stage": "queued", "progress": 0.0, "eta_seconds": None})

    def fail_pending(self, model: str, error: Mapping[str, Any]) -> None:
        """Ends the pending jobs of a model that can't be had."""
        self._change_pending(model, ended_values(JobState.FAILED, self._clock()) | {"error": dict(error)})

    def _change_pending(self, model: str, values: Mapping[str, Any]) -> None:
        pending = select(jobs.c.id).where(jobs.c.state == JobState.PENDING, jobs.c.model == model)
        with self.database.writing() as connection:
            for job_id in connection.execute(pending.with_for_update(skip_locked=True)).scalars().all():
                self._change(connection, job_id, **values)
