"""The event log: what happened to jobs, in an order that streams can resume from."""

import json
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select

from deployments.jobs.database import Database
from deployments.jobs.job import Event, Job
from deployments.jobs.schema import events

_LOCK = 0x77616E3232
"""PostgreSQL's advisory lock for writing events: they become visible in the order of their sequence numbers."""


class EventLog:
    """Appends to and reads from the log."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def append(self, connection: Connection, job: Job, kind: str = "updated") -> None:
        """Tells of a job's state, in the transaction that made it."""
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        data = {
            "state": job.state.value,
            "model": job.params.model,
            "stage": job.stage,
            "progress": job.progress,
            "current_step": job.current_step,
            "total_steps": job.total_steps,
            "eta_seconds": job.eta_seconds,
            "attempt": job.attempt,
            "cancel_requested": job.cancel_requested,
            "error": job.error,
        }
        connection.execute(
            insert(events).values(job_id=job.id, type=kind, data=json.dumps(data), created_at=self._clock())
        )

    def after(self, sequence: int, *, job_id: str | None = None, limit: int = 500) -> list[Event]:
        """The events that came after `sequence`, oldest first; of one job, or of all."""
        query = select(events).where(events.c.sequence > sequence).order_by(events.c.sequence).limit(limit)
        if job_id is not None:
            query = query.where(events.c.job_id == job_id)
        with self._database.reading() as connection:
            return [
                Event(
                    sequence=row.sequence,
                    job_id=row.job_id,
                    type=row.type,
                    data=json.loads(row.data),
                    created_at=row.created_at,
                )
                for row in connection.execute(query)
            ]

    def last_sequence(self) -> int:
        """The sequence number of the newest event, 0 before the first."""
        with self._database.reading() as connection:
            return connection.execute(select(func.max(events.c.sequence))).scalar_one() or 0

    def prune(self, *, older_than_seconds: float) -> int:
        """Forgets old events; returns how many."""
        with self._database.writing() as connection:
            limit = self._clock() - older_than_seconds
            return connection.execute(delete(events).where(events.c.created_at < limit)).rowcount
