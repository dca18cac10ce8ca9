"""Ended jobs that their retention ends: the oldest ones, found in chunks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from deployments.jobs.database import Database
from deployments.jobs.job import JobState
from deployments.jobs.retention import Retention, fair_share
from deployments.jobs.schema import job_counts, jobs, webhook_deliveries

_READ_AT_ONCE = 500
_SIZE = jobs.c.output["file_size_bytes"].as_integer().label("size_bytes")
_OLDEST_FIRST = (
    select(jobs.c.number, jobs.c.id, jobs.c.owner, jobs.c.batch_id, jobs.c.created_at, jobs.c.completed_at, _SIZE)
    .where(jobs.c.favorite.is_(False), jobs.c.deletion_due_at.is_(None))
    .order_by(jobs.c.number)
    .limit(_READ_AT_ONCE)
)
_LEAVING = select(jobs.c.owner, _SIZE).where(jobs.c.deletion_due_at > 0)
"""Sizes of the videos that are about to be deleted."""
_UNFINISHED = (JobState.PENDING, JobState.PROCESSING)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Protected:
    """Ended jobs that stay, whatever their age."""

    job_ids: frozenset[str]
    batch_ids: frozenset[str]

    def holds(self, job_id: str, batch_id: str | None) -> bool:
        """Returns whether a job stays."""
        return job_id in self.job_ids or batch_id in self.batch_ids


class _Excess:
    """Bytes of each owner's videos, compared with their limit while videos are chosen."""

    def __init__(self, by_owner: dict[str, int], retention: Retention) -> None:
        self._by_owner = by_owner
        limits = [] if retention.video_bytes_per_owner is None else [retention.video_bytes_per_owner]
        if retention.video_bytes is not None:
            limits.append(fair_share(by_owner.values(), retention.video_bytes))
        self._limit = min(limits, default=None)

    @property
    def is_any(self) -> bool:
        """Whether the videos of any owner are too large."""
        return any(map(self.concerns, self._by_owner))

    def concerns(self, owner: str) -> bool:
        """Returns whether the videos of an owner are too large."""
        return self._limit is not None and self._by_owner.get(owner, 0) > self._limit

    def subtract(self, owner: str, size_bytes: int) -> None:
        """Counts a chosen video."""
        self._by_owner[owner] = self._by_owner.get(owner, 0) - size_bytes


class JobExpiry:
    """Finds ended jobs to delete. Each chunk is one short transaction that changes nothing.

    Left out are favorites, videos that are about to be deleted anyway, jobs whose video an unfinished job continues or
    edits, jobs of a batch that has unfinished jobs, and jobs with a pending webhook, whose receiver may fetch the
    video. Favorites count towards the sizes, and videos that are about to be deleted do not.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def find(self, retention: Retention) -> Iterator[str]:
        """Yields the ids of the jobs to delete, oldest first. The caller may delete each one before the next."""
        yield from self._find(JobState.COMPLETED, retention.video_seconds, _Excess(self._read_bytes(), retention))
        nothing = _Excess({}, Retention())
        for state in (JobState.FAILED, JobState.CANCELLED):
            yield from self._find(state, retention.failed_job_seconds, nothing)

    def _find(self, state: JobState, max_age_seconds: float | None, excess: _Excess) -> Iterator[str]:
        ended_before = None if max_age_seconds is None else self._clock() - max_age_seconds
        last = 0
        while excess.is_any or ended_before is not None:
            with self._database.reading() as connection:
                protected = _read_protected(connection)
                rows = connection.execute(_OLDEST_FIRST.where(jobs.c.state == state, jobs.c.number > last)).all()
            for row in rows:
                last = row.number
                is_young = ended_before is None or row.created_at >= ended_before
                if is_young and not excess.is_any:
                    return  # the later jobs ended later, too
                is_old = ended_before is not None and (row.completed_at or row.created_at) < ended_before
                if (is_old or excess.concerns(row.owner)) and not protected.holds(row.id, row.batch_id):
                    yield row.id
                    excess.subtract(row.owner, row.size_bytes or 0)
            if not rows:
                return

    def _read_bytes(self) -> dict[str, int]:
        query = select(job_counts.c.owner, func.sum(job_counts.c.video_bytes)).group_by(job_counts.c.owner)
        with self._database.reading() as connection:
            sizes = {owner: int(size) for owner, size in connection.execute(query)}
            for owner, size in connection.execute(_LEAVING):
                sizes[owner] = sizes.get(owner, 0) - (size or 0)
        return sizes


def _read_protected(connection: Connection) -> _Protected:
    is_unfinished = jobs.c.state.in_(_UNFINISHED)
    sources = select(jobs.c.source_job_id).where(is_unfinished, jobs.c.source_job_id.is_not(None)).distinct()
    batches = select(jobs.c.batch_id).where(is_unfinished, jobs.c.batch_id.is_not(None)).distinct()
    reported = select(webhook_deliveries.c.job_id).where(webhook_deliveries.c.state == "pending").distinct()
    job_ids = [job_id for query in (sources, reported) for job_id in connection.execute(query).scalars()]
    return _Protected(job_ids=frozenset(job_ids), batch_ids=frozenset(connection.execute(batches).scalars()))
