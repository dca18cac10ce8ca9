"""The event log: the changes of all jobs, in an order from which streams can resume."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Delete, bindparam, delete, func, insert, select

from deployments.jobs.database import Database
from deployments.jobs.job import Event, Job
from deployments.jobs.outbox import Outbox
from deployments.jobs.schema import events
from deployments.jobs.waiting import download_key, event_data, fill_downloads

QUEUE_CHANGED = "queue_changed"
"""Type of the events that concern the whole queue, or all jobs that wait for a download."""

_LOCK = 0x77616E3232
"""Key of the PostgreSQL advisory lock that makes events visible in the order of their sequence numbers."""


_INSERT = insert(events)
_LAST = select(func.max(events.c.sequence))
_FIRST = select(func.min(events.c.sequence)).where(events.c.sequence >= bindparam("start"))
_PRUNED_AT_ONCE = 1000
"""Largest number of events that one transaction deletes."""
_PRUNE_PAUSE_SECONDS = 0.05
"""Time between two such transactions, in which other writers have their turn."""


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
        [job] = fill_downloads(connection, [job])
        self._insert(connection, job.id, kind, describe(job))

    def append_to_queue(self, connection: Connection, data: Mapping[str, Any], *, owner: str | None = None) -> None:
        """Appends a change of the queue, which concerns no single job. The event's job id is empty.

        Args:
            connection: the transaction that made the change.
            data: the change.
            owner: the only owner whose jobs it concerns; None for a change that all owners may see.
        """
        self._insert(connection, "", QUEUE_CHANGED, data if owner is None else {**data, "owner": owner})

    def append_download(self, connection: Connection, model: str) -> None:
        """Appends one event for all jobs that wait for the download of a model; see `waiting.stream_keys`.

        Its type is one that earlier versions know, because during an upgrade they read the log, too.
        """
        self._insert(connection, download_key(model), QUEUE_CHANGED, event_data(model))

    def _insert(self, connection: Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        row = {"job_id": job_id, "type": kind, "data": json.dumps(data), "created_at": self._clock()}
        connection.execute(_INSERT, row)

    def after(self, sequence: int, *, job_ids: Sequence[str] = (), limit: int = 500) -> list[Event]:
        """Returns the events after a sequence number, oldest first.

        Args:
            sequence: the number of the last event that the caller has seen.
            job_ids: returns only the events with these job ids; an empty sequence stands for all events.
            limit: the largest number of events to return.
        """
        query = select(events).where(events.c.sequence > sequence).order_by(events.c.sequence).limit(limit)
        if job_ids:
            query = query.where(events.c.job_id.in_(job_ids))
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
        """Deletes the events that are older than this and returns their number.

        It deletes them from the oldest on, in short transactions with pauses, because every other writer of SQLite
        waits for a transaction that writes.
        """
        before, total, start = self._clock() - older_than_seconds, 0, 0
        while True:
            with self._database.writing() as connection:
                first = connection.execute(_FIRST, {"start": start}).scalar_one()
                if first is None:
                    return total
                start = first + _PRUNED_AT_ONCE
                deleted = connection.execute(delete_between(first, start, before)).rowcount
            total += deleted
            if not deleted:
                return total
            time.sleep(_PRUNE_PAUSE_SECONDS)

    def count_older(self, *, than_seconds: float) -> int:
        """Returns the number of events that are older than this."""
        old = select(func.count()).select_from(events).where(events.c.created_at < self._clock() - than_seconds)
        with self._database.reading() as connection:
            return int(connection.execute(old).scalar_one())


def delete_between(first: int, end: int, before: float) -> Delete:
    """Returns the statement that deletes, among the events from a number up to another, those from before a time.

    The primary key finds them, because the events are nearly in the order of their times. A further index on the times
    would make each new event more expensive.
    """
    is_among = (events.c.sequence >= first, events.c.sequence < end)
    return delete(events).where(*is_among, events.c.created_at < before)
