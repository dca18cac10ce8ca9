"""Counts of the jobs, written with each change, so that reading them costs the same however many jobs there are.

The table `job_counts` has a row for each group of jobs. The pending jobs of a priority are counted in blocks of
neighboring places, because the sum over the blocks before a job gives its queue position.
"""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Executable, Row, and_, bindparam, delete

from deployments.jobs.database import insert_or_update
from deployments.jobs.job import JobState
from deployments.jobs.schema import job_counts

BLOCK_SIZE = 256
"""Number of neighboring places in the queue that are counted together. The stored counts depend on it."""

COUNTED_COLUMNS = ("state", "model", "hidden", "priority", "rank", "output", "owner")
"""Columns of a job on which the counts depend."""


class Group(NamedTuple):
    """Jobs that are counted together."""

    state: str
    model: str
    hidden: bool
    owner: str
    priority: int = 0
    """Priority of pending jobs; 0 for other states."""
    block: int = 0
    """Block of places of pending jobs; 0 for other states."""


def block_of(queue_order: int) -> int:
    """Returns the block of a place in the queue."""
    return queue_order // BLOCK_SIZE


def count_change(connection: Connection, before: Row[Any] | None, after: Row[Any] | None) -> None:
    """Updates the counts after a job has changed, in the transaction that changed the job.

    On PostgreSQL this must follow the append of the change's event. The lock of the event log then makes the writers
    of the counts wait for each other, always in the same order.

    Args:
        connection: the open transaction.
        before: the job's `COUNTED_COLUMNS` before the change; None for a new job.
        after: the job's `COUNTED_COLUMNS` after the change; None for a deleted job.
    """
    old, new = _group_and_bytes(before), _group_and_bytes(after)
    if old == new:
        return
    if old is not None:
        add_to_group(connection, old[0], jobs=-1, video_bytes=-old[1])
    if new is not None:
        add_to_group(connection, new[0], jobs=1, video_bytes=new[1])


def add_to_group(connection: Connection, group: Group, *, jobs: int, video_bytes: int) -> None:
    """Adds to the counts of a group, and removes the group once it has no jobs."""
    added = {"added_jobs": jobs, "added_bytes": video_bytes}
    dialect = connection.dialect.name
    if connection.execute(_add_statement(dialect), group._asdict() | added).scalar_one() == 0:
        same = and_(*(job_counts.c[name] == value for name, value in group._asdict().items()))
        connection.execute(delete(job_counts).where(same))


@cache
def _add_statement(dialect: str) -> Executable:
    """Returns the statement that inserts a group or adds to its counts. Building it takes longer than running it."""
    key: dict[str, Any] = {name: bindparam(name) for name in Group._fields}
    row = insert_or_update(dialect, job_counts).values(
        **key, jobs=bindparam("added_jobs"), video_bytes=bindparam("added_bytes")
    )
    sums = {name: job_counts.c[name] + row.excluded[name] for name in ("jobs", "video_bytes")}
    return row.on_conflict_do_update(index_elements=list(job_counts.primary_key), set_=sums).returning(
        job_counts.c.jobs
    )


def _group_and_bytes(row: Row[Any] | None) -> tuple[Group, int] | None:
    if row is None:
        return None
    video_bytes = (row.output or {}).get("file_size_bytes", 0)
    if row.state != JobState.PENDING:
        return Group(str(row.state), row.model, row.hidden, row.owner), video_bytes
    return Group(str(row.state), row.model, row.hidden, row.owner, row.priority, block_of(row.rank)), video_bytes
