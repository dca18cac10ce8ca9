"""The present state of the jobs, read together with the place in the event log from which a stream continues it."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from deployments.jobs.database import Database
from deployments.jobs.job import Job, JobState
from deployments.jobs.queue import read_paused
from deployments.jobs.reading import read_counts, read_pending
from deployments.jobs.rows import read_job, read_jobs
from deployments.jobs.schema import events, jobs

MAX_JOBS = 100
"""Largest number of running, of pending and of ended jobs in a snapshot."""
RECENT_SECONDS = 60.0
"""Time after its end for which a job is in the snapshot."""
_RECENT_EVENTS = 1000
"""Number of newest events among which recently ended jobs are sought, so that a long history costs nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Jobs as they were right after one event of the log."""

    sequence: int
    """Number of that event. Later events continue the snapshot without a gap or a repetition."""
    jobs: list[Job]


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSnapshot:
    """State of the queue as it was right after one event of the log."""

    sequence: int
    counts: dict[JobState, int]
    """Number of listed jobs in each state."""
    paused: bool


class SnapshotReader:
    """Reads snapshots. Each method is one short transaction that changes nothing.

    With an `owner`, the jobs of other owners do not exist for a method.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def current(self, *, owner: str | None = None) -> Snapshot:
        """Returns the recently ended jobs, the running jobs, and the next pending jobs, up to a number of each."""
        with self._database.reading_one_state() as connection:
            sequence = _last_sequence(connection)
            recent = select(events.c.job_id).where(
                events.c.sequence > sequence - _RECENT_EVENTS, events.c.created_at > self._clock() - RECENT_SECONDS
            )
            ended = [state for state in JobState if state.ended]
            seen = select(jobs) if owner is None else select(jobs).where(jobs.c.owner == owner)
            stays = func.coalesce(jobs.c.deletion_due_at, 0) == 0
            queries = (
                seen.where(jobs.c.state.in_(ended), jobs.c.id.in_(recent), stays).order_by(jobs.c.number.desc()),
                seen.where(jobs.c.state == JobState.PROCESSING).order_by(jobs.c.number),
            )
            found = [job for query in queries for job in read_jobs(connection, query.limit(MAX_JOBS))]
            return Snapshot(sequence=sequence, jobs=found + read_pending(connection, seen, MAX_JOBS))

    def job(self, job_id: str, *, owner: str | None = None) -> Snapshot:
        """Returns one job, in whatever state it is.

        Raises:
            JobNotFound: there is no job with this id.
        """
        with self._database.reading_one_state() as connection:
            return Snapshot(sequence=_last_sequence(connection), jobs=[read_job(connection, job_id, owner=owner)])

    def queue(self, *, owner: str | None = None) -> QueueSnapshot:
        """Returns the state of the queue."""
        with self._database.reading_one_state() as connection:
            return QueueSnapshot(
                sequence=_last_sequence(connection),
                counts=read_counts(connection, hidden=False, owner=owner),
                paused=read_paused(connection),
            )


def _last_sequence(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(events.c.sequence), 0))).scalar_one())
