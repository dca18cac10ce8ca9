"""The queue as its users see it: the listed jobs with their positions, the counts, the pause, and the clearing."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, func, or_, select, update

from deployments.jobs.counting import BLOCK_SIZE, Group, add_to_group, block_of
from deployments.jobs.database import Database
from deployments.jobs.events import EventLog
from deployments.jobs.job import Job, JobState, Priority
from deployments.jobs.reading import read_counts, read_page, read_pending
from deployments.jobs.rows import read_job, read_jobs
from deployments.jobs.schema import job_counts, jobs
from deployments.jobs.stored_settings import read_setting, write_setting

_PAUSED = "queue_paused"
"""Name of the stored setting that is true while the queue is paused."""
_ENDED = [state for state in JobState if state.ended]


# Building a statement takes several times as long as running it, so these are built once.
_CURRENT = select(jobs).where(jobs.c.state == JobState.PROCESSING).order_by(jobs.c.number).limit(1)
_same_priority = and_(jobs.c.state == JobState.PENDING, jobs.c.priority == bindparam("priority"))
_in_blocks_before = select(func.coalesce(func.sum(job_counts.c.jobs), 0)).where(
    job_counts.c.state == JobState.PENDING,
    or_(
        job_counts.c.priority > bindparam("priority"),
        and_(job_counts.c.priority == bindparam("priority"), job_counts.c.block < bindparam("block")),
    ),
)
_in_block_before = select(func.count()).where(
    _same_priority, jobs.c.rank >= bindparam("start"), jobs.c.rank < bindparam("first")
)
_POSITION = select(_in_blocks_before.scalar_subquery() + _in_block_before.scalar_subquery() + 1)
"""Queue position of the pending job at the place `first`. Only the places of its own block are counted one by one."""
_PENDING_BEFORE = select(func.coalesce(func.sum(job_counts.c.jobs), 0)).where(
    job_counts.c.state == JobState.PENDING, job_counts.c.priority >= bindparam("priority")
)
"""Number of pending jobs that run before a new job of a priority."""
_PLACES = (
    select(jobs.c.rank)
    .where(_same_priority, jobs.c.rank.between(bindparam("first"), bindparam("last")))
    .order_by(jobs.c.rank)
)
"""Places of the pending jobs from `first` to `last`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePage:
    """Jobs of the queue, and the state of the queue around them."""

    counts: dict[JobState, int]
    """Number of jobs in each state, without those that were cleared."""
    paused: bool
    jobs: list[Job]
    positions: dict[str, int]
    """Position of each pending job of the page by its id; 1 is the next job."""
    current: Job | None
    """The running job that was submitted first."""


class JobQueue:
    """Reads and controls the queue. Each method is one short transaction.

    With an `owner`, the jobs of other owners do not exist for a method. Positions always count all jobs.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database, self._events = database, events

    def find(self, job_id: str, *, owner: str | None = None) -> tuple[Job, int | None]:
        """Returns a job and its queue position, which is None unless the job is pending.

        Raises:
            JobNotFound: there is no job with this id.
        """
        with self._database.reading() as connection:
            job = read_job(connection, job_id, owner=owner)
            return job, read_positions(connection, [job]).get(job.id)

    def positions(self, found: Collection[Job]) -> dict[str, int]:
        """Returns the queue positions of the pending ones among some jobs, by their ids; 1 is the next job."""
        with self._database.reading() as connection:
            return read_positions(connection, found)

    def next_position(self, priority: Priority) -> int:
        """Returns the queue position that a new job of a priority would get."""
        with self._database.reading() as connection:
            return int(connection.execute(_PENDING_BEFORE, {"priority": int(priority)}).scalar_one()) + 1

    def page(
        self,
        *,
        states: Sequence[JobState] = (),
        after: str | None = None,
        limit: int = 100,
        owner: str | None = None,
    ) -> QueuePage:
        """Returns a page of the listed jobs, newest first.

        Args:
            states: lists only jobs in these states; an empty sequence stands for all states.
            after: id of the last job of the previous page, which may have been deleted since.
            limit: the largest number of jobs to return.
            owner: lists and counts only the jobs of this owner.

        Raises:
            JobNotFound: there is no job `after`.
        """
        listed = select(jobs).where(jobs.c.hidden.is_(False))
        with self._database.reading() as connection:
            found = read_page(connection, listed, states, after, limit, owner=owner)
            return _read_around(connection, found, owner)

    def active(self, *, limit: int = 100, owner: str | None = None) -> QueuePage:
        """Returns the running jobs in the order of their submission, and then the next pending ones in their order."""
        with self._database.reading() as connection:
            listed = select(jobs) if owner is None else select(jobs).where(jobs.c.owner == owner)
            running = listed.where(jobs.c.state == JobState.PROCESSING).order_by(jobs.c.number).limit(limit)
            found = read_jobs(connection, running)
            return _read_around(connection, found + read_pending(connection, listed, limit - len(found)), owner)

    def is_paused(self) -> bool:
        """Returns whether the queue is paused."""
        with self._database.reading() as connection:
            return read_paused(connection)

    def set_paused(self, paused: bool) -> None:
        """Pauses or resumes the queue. While it is paused, no dispatcher claims a job; running jobs continue."""
        with self._database.writing() as connection:
            write_setting(connection, _PAUSED, paused)
            self._events.append_to_queue(connection, {"paused": paused})

    def clear(self, *, owner: str | None = None) -> int:
        """Hides all ended jobs from the queue's listings and returns their number. It deletes no job and no video."""
        size = jobs.c.output["file_size_bytes"].as_integer()
        ended = select(jobs.c.number).where(jobs.c.hidden.is_(False), jobs.c.state.in_(_ENDED))
        if owner is not None:
            ended = ended.where(jobs.c.owner == owner)
        # The rows are locked in the order of `rows.py`: no deadlocks.
        locked = ended.order_by(jobs.c.number).with_for_update()
        with self._database.writing() as connection:
            hide = update(jobs).where(jobs.c.number.in_(locked)).values(hidden=True)
            cleared: Counter[tuple[str, str, str]] = Counter()
            video_bytes: Counter[tuple[str, str, str]] = Counter()
            hidden = hide.returning(jobs.c.state, jobs.c.model, jobs.c.owner, size)
            for state, model, owner_of, size_bytes in connection.execute(hidden):
                cleared[state, model, owner_of] += 1
                video_bytes[state, model, owner_of] += size_bytes or 0
            of_owners: Counter[str] = Counter()  # no owner learns how many jobs the others had
            for (_, _, owner_of), count in cleared.items():
                of_owners[owner_of] += count
            for owner_of, count in of_owners.items():
                self._events.append_to_queue(connection, {"cleared": count}, owner=owner_of)
            for key, count in cleared.items():
                state, model, owner_of = key
                shown, gone = Group(state, model, False, owner_of), Group(state, model, True, owner_of)
                add_to_group(connection, shown, jobs=-count, video_bytes=-video_bytes[key])
                add_to_group(connection, gone, jobs=count, video_bytes=video_bytes[key])
            return cleared.total()


def _read_around(connection: Connection, found: list[Job], owner: str | None) -> QueuePage:
    """Reads the state of the queue around a page of jobs."""
    current = _CURRENT if owner is None else _CURRENT.where(jobs.c.owner == owner)
    return QueuePage(
        counts=read_counts(connection, hidden=False, owner=owner),
        paused=read_paused(connection),
        jobs=found,
        positions=read_positions(connection, found),
        current=next(iter(read_jobs(connection, current)), None),
    )


def read_paused(connection: Connection) -> bool:
    """Reads inside an open transaction whether the queue is paused."""
    return bool(read_setting(connection, _PAUSED, False))


def read_positions(connection: Connection, found: Collection[Job]) -> dict[str, int]:
    """Reads the queue positions of the pending jobs among `found`."""
    by_block: defaultdict[tuple[int, int], dict[int, str]] = defaultdict(dict)
    for job in found:
        if job.state is JobState.PENDING:
            by_block[int(job.priority), block_of(job.queue_order)][job.queue_order] = job.id
    positions: dict[str, int] = {}
    for (priority, block), members in by_block.items():
        first, last = min(members), max(members)
        given = {"priority": priority, "block": block, "start": block * BLOCK_SIZE, "first": first, "last": last}
        position = int(connection.execute(_POSITION, given).scalar_one())
        places: Iterable[int] = connection.execute(_PLACES, given).scalars() if last > first else [first]
        positions |= {members[place]: position + index for index, place in enumerate(places) if place in members}
    return positions
