"""Rows of the jobs table: finding, decoding and changing them inside a transaction."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from deployments.jobs.events import EventLog
from deployments.jobs.job import Job, JobNotFound, JobState, Priority
from deployments.jobs.schema import jobs
from wan22_bridge.types import GenerationParams

_COLUMNS_OUTSIDE_JOB = ("model", "idempotency_key", "request_hash", "yield_token")
"""Columns that serve queries only and are no fields of `Job`."""


def is_storable(job_id: str) -> bool:
    """Returns whether the database can compare with an id: PostgreSQL rejects text with a null character."""
    return "\x00" not in job_id


def find_row(connection: Connection, job_id: str, *, lock: bool = False) -> Row[Any]:
    """Reads the row of one job.

    Args:
        connection: an open transaction.
        job_id: id of the job.
        lock: whether to lock the row until the transaction ends.

    Raises:
        JobNotFound: there is no job with this id.
    """
    query = select(jobs).where(jobs.c.id == job_id)
    row = None
    if is_storable(job_id):
        row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise JobNotFound(f"There is no job {job_id[:80]!r}.", suggestions=["List the jobs to find its id."])
    return row


def read_jobs(connection: Connection, query: Select[Any]) -> list[Job]:
    """Runs a query over whole rows and decodes them."""
    return [to_job(row) for row in connection.execute(query)]


def to_job(row: Row[Any]) -> Job:
    """Decodes a whole row."""
    values = {name: value for name, value in row._mapping.items() if name not in _COLUMNS_OUTSIDE_JOB}
    rank = values.pop("rank")
    values["queue_order"] = values["number"] if rank is None else rank
    values["state"] = JobState(values["state"])
    values["priority"] = Priority(values["priority"])
    values["params"] = GenerationParams.from_dict(values["params"])
    return Job(**values)


def change_job(connection: Connection, events: EventLog, job_id: str, values: Mapping[str, Any]) -> Job:
    """Writes columns of a job, appends the event that reports the change, and returns the changed job."""
    row = connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values).returning(jobs)).one()
    job = to_job(row)
    events.append(connection, job)
    return job


def ended_values(state: JobState, now: float) -> dict[str, Any]:
    """Returns the columns of a job that ends in `state` at the time `now`."""
    return {
        "state": state,
        "stage": state.value,
        "completed_at": now,
        "lease_expires_at": None,
        "eta_seconds": None,
        "cancel_requested": state is JobState.CANCELLED,
    }
