"""Rows of the jobs table: finding, decoding and changing them inside a transaction.

A transaction that waits for locks on PostgreSQL takes them in one order, so that no two wait for each other: first all
its rows of the jobs table by their numbers, then the use of one client, then the lock of the event log, then the
counts. A transaction without waiting (`skip_locked`) may lock rows in any order.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select, update

from deployments.jobs.counting import COUNTED_COLUMNS, count_change
from deployments.jobs.events import EventLog
from deployments.jobs.job import MOCK_MODEL, Job, JobNotFound, JobState, Priority
from deployments.jobs.schema import deleted_jobs, jobs
from deployments.jobs.waiting import fill_downloads
from wan22_bridge.types import GenerationParams

_COLUMNS_OUTSIDE_JOB = (
    "model",
    "idempotency_key",
    "request_hash",
    "yield_token",
    "hidden",
    "client",
    "charged_until",
    "searched_text",
)
"""Columns that serve queries only and are no fields of `Job`."""


_BY_ID = select(jobs).where(jobs.c.id == bindparam("job_id"))
_BY_ID_LOCKED = _BY_ID.with_for_update()


def is_storable(job_id: str) -> bool:
    """Returns whether the database can compare with an id: PostgreSQL rejects text with a null character."""
    return "\x00" not in job_id


def fold_text(text: str) -> str:
    """Returns a text without the differences between capital and small letters, and between kinds of spaces.

    The databases compare letters outside of ASCII in different ways, so both the searched and the sought text are
    stored and compared in this form.
    """
    return " ".join(text.replace("\x00", " ").casefold().split())


def find_row(connection: Connection, job_id: str, *, lock: bool = False, owner: str | None = None) -> Row[Any]:
    """Reads the row of one job.

    Args:
        connection: an open transaction.
        job_id: id of the job.
        lock: whether to lock the row until the transaction ends.
        owner: name of the only owner whose jobs count; None for all.

    Raises:
        JobNotFound: there is no job with this id, or another owner has it.
    """
    row = None
    if is_storable(job_id):
        row = connection.execute(_BY_ID_LOCKED if lock else _BY_ID, {"job_id": job_id}).one_or_none()
    if row is None or owner not in (None, row.owner):
        raise _not_found(job_id)
    return row


def find_number(connection: Connection, job_id: str, *, owner: str | None = None) -> int:
    """Returns the serial number of a job, also of a deleted one, from which a listing continues.

    Raises:
        JobNotFound: no job of the owner had this id, or the job was deleted too long ago.
    """
    if is_storable(job_id):
        for table in (jobs, deleted_jobs):
            row = connection.execute(select(table.c.number, table.c.owner).where(table.c.id == job_id)).one_or_none()
            if row is not None and owner in (None, row.owner):
                return int(row.number)
    raise _not_found(job_id, param="after")


def _not_found(job_id: str, *, param: str | None = None) -> JobNotFound:
    suggestions = ["List the jobs to find its id."]
    return JobNotFound(f"There is no job {job_id[:80]!r}.", param=param, suggestions=suggestions)


def read_jobs(connection: Connection, query: Select[Any]) -> list[Job]:
    """Runs a query over whole rows and decodes them. Jobs that wait for a download have its progress."""
    return fill_downloads(connection, [to_job(row) for row in connection.execute(query)])


def read_job(connection: Connection, job_id: str, *, owner: str | None = None) -> Job:
    """Reads one job. If it waits for a download, it has the download's progress.

    Raises:
        JobNotFound: there is no job with this id, or another owner than the only one that counts has it.
    """
    [job] = fill_downloads(connection, [to_job(find_row(connection, job_id, owner=owner))])
    return job


def read_batch(connection: Connection, batch_id: str) -> list[Job]:
    """Reads the jobs of a batch, in the order of their submission."""
    return read_jobs(connection, select(jobs).where(jobs.c.batch_id == batch_id).order_by(jobs.c.number))


def to_job(row: Row[Any]) -> Job:
    """Decodes a whole row."""
    values = {name: value for name, value in row._mapping.items() if name not in _COLUMNS_OUTSIDE_JOB}
    values["queue_order"] = values.pop("rank")
    values["state"] = JobState(values["state"])
    values["priority"] = Priority(values["priority"])
    values["params"] = GenerationParams.from_dict(values["params"])
    return Job(**values)


def change_job(connection: Connection, events: EventLog, job_id: str, values: Mapping[str, Any]) -> Job:
    """Writes columns of a job, appends the event that reports the change, and returns the changed job.

    The end of a job also gets its webhooks into the outbox, in the same transaction.
    """
    before = None
    if not frozenset(COUNTED_COLUMNS).isdisjoint(values):
        before = find_row(connection, job_id, lock=True)
    row = connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values).returning(jobs)).one()
    job = to_job(row)
    events.append(connection, job)
    if "state" in values and job.state.ended:
        events.outbox.append(connection, job)
    if before is not None:
        count_change(connection, before, row)
    return job


def pending_values(job: Job, *, count_attempt: bool) -> dict[str, Any]:
    """Returns the columns of a job that goes back into the queue."""
    return {
        "state": JobState.PENDING,
        "stage": "queued",
        "progress": 0.0,
        "current_step": 0,
        "eta_seconds": None,
        "lease_expires_at": None,
        "charged_until": None,
        "attempt": job.attempt if count_attempt else job.attempt - 1,
    }


def mock_values(job: Job, reason: str) -> dict[str, Any]:
    """Returns the columns of a job that waits in the queue to end with a mock video.

    Args:
        job: the job.
        reason: message of the error with which the job would have failed.
    """
    params = replace(job.params, is_mock=True, mock_reason=reason)
    fresh = {"progress_attempt": job.attempt, "stalled_attempts": 0}
    return pending_values(job, count_attempt=True) | fresh | {"params": params.to_dict(), "model": MOCK_MODEL}


def cancelling_values(job: Job, now: float) -> dict[str, Any]:
    """Returns the columns of a job that a client cancels at the time `now`: a running job is asked to stop."""
    return ended_values(JobState.CANCELLED, now) if job.state is JobState.PENDING else {"cancel_requested": True}


def ended_values(state: JobState, now: float) -> dict[str, Any]:
    """Returns the columns of a job that ends in `state` at the time `now`."""
    return {
        "state": state,
        "stage": state.value,
        "completed_at": now,
        "lease_expires_at": None,
        "charged_until": None,
        "eta_seconds": None,
        "cancel_requested": state is JobState.CANCELLED,
    }
