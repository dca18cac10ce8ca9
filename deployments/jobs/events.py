"""The event log: the changes of all jobs, in an order from which streams can resume."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from deployments.jobs.database import Database
from deployments.jobs.job import Event, Job
from deployments.jobs.outbox import Outbox
from deployments.jobs.schema import events

QUEUE_CHANGED = "queue_changed"
"""Type of the events that concern the whole queue."""

_LOCK = 0x77616E3232
"""Key of the PostgreSQL advisory lock that makes events visible in the order of their sequence numbers."""


_INSERT = insert(events)
_LAST = select(func.max(events.c.sequence))


def describe(job: Job) -> dict[str, Any]:
    """Returns a job's present state as the data of an event."""
    return {
        "owner": job.owner,
        "state": job.state.value,
        "model": job.params.model,
        "stage": job.stage,
        "progress": job.progress,
        "current_step": job.current_step,
        "total_steps": job.total_steps,
        "segment": job.segment,
        "total_segments": len(job.params.segments) or None,
        "eta_seconds": job.eta_seconds,
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "error": job.error,
        "is_mock": job.params.is_mock,
    }


class EventLog:
    """Appends events to the log and reads them."""

    def __init__(self, database: Database, clock: Callable[[], float], outbox: Outbox) -> None:
        self._database = database
        self._clock = clock
        self.outbox = outbox
        """Outbox of the webhooks that report the ends of jobs."""

    def append(self, connection: Connection, job: Job, kind: str = "updated") -> None:
        """Appends a job's present state, in the transaction that changed the job."""
        self._insert(connection, job.id, kind, describe(job))

    def append_to_queue(self, connection: Connection, data: Mapping[str, Any], *, owner: str | None = None) -> None:
        """Appends a change of the queue, which concerns no single job. The event's job id is empty.

        Args:
            connection: the transaction that made the change.
            data: the change.
            owner: the only owner whose jobs it concerns; None for a change that all owners may see.
        """
        self._insert(connection, "", QUEUE_CHANGED, data if owner is None else {**data, "owner": owner})

    def _insert(self, connection: Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        row = {"job_id": job_id, "type": kind, "data": json.dumps(data), "created_at": self._clock()}
        connection.execute(_INSERT, row)

    def after(self, sequence: int, *, job_id: str | None = None, limit: int = 500) -> list[Event]:
        """Returns the events after a sequence number, oldest first.

        Args:
            sequence: the number of the last event that the caller has seen.
            job_id: returns the events of this job only; None returns those of all jobs.
            limit: the largest number of events to return.
        """
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
        """Returns the sequence number of the newest event, or 0 if there is none."""
        with self._database.reading() as connection:
            return connection.execute(_LAST).scalar_one() or 0

    def prune(self, *, older_than_seconds: float) -> int:
        """Deletes the events that are older than this and returns their number."""
        with self._database.writing() as connection:
            limit = self._clock() - older_than_seconds
            return connection.execute(delete(events).where(events.c.created_at < limit)).rowcount
