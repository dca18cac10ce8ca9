"""Use of the service by each client and day, and the limits on it that the database enforces.

The rows of a client's use are locked after rows of jobs and before the lock of the event log; see `rows.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable, Row, bindparam, delete, func, select

from deployments.jobs.database import Database, insert_or_update
from deployments.jobs.job import MOCK_MODEL, JobState
from deployments.jobs.limits import Account, ClientLimits, LimitExceeded, QueueFull
from deployments.jobs.schema import job_counts, jobs
from deployments.jobs.schema import usage as table

DAY_SECONDS = 24 * 3600
PENDING_RETRY_SECONDS = 60
"""Time after which a client whose pending jobs are too many may try again. Nobody knows when the next job ends."""
_USED = ("uploads", "upload_bytes", "gpu_seconds")

_pending_of_client = select(func.count()).where(
    jobs.c.client == bindparam("client"), jobs.c.state == JobState.PENDING.value
)
_pending_overall = select(func.coalesce(func.sum(job_counts.c.jobs), 0)).where(
    job_counts.c.state == JobState.PENDING.value
)
_PENDING_OF_CLIENT = select(_pending_of_client.scalar_subquery())
_PENDING = select(_pending_of_client.scalar_subquery(), _pending_overall.scalar_subquery())
_DAY = select(table).where(table.c.client == bindparam("client"), table.c.day == bindparam("day"))


@dataclass(frozen=True, kw_only=True, slots=True)
class DayOfUse:
    """Use of the service by a client on a day."""

    day: int
    """Days since the epoch, in UTC."""
    client: str
    uploads: int
    upload_bytes: int
    gpu_seconds: float
    """Time for which generators worked for the client's jobs, in seconds."""


class Usage:
    """Reads and counts the use of the service. Each method is one short transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_uploads(self, account: Account, sizes: Sequence[int], *, new_jobs: int = 0) -> None:
        """Counts files that a client is about to store.

        Args:
            account: the client.
            sizes: sizes of the files in bytes.
            new_jobs: number of jobs that the same request submits. A request whose jobs would be rejected is rejected
                here, before it stores a file.

        Raises:
            LimitExceeded: the client has reached a limit. Nothing is counted.
            QueueFull: the queue has too many pending jobs.
        """
        if not sizes:
            return
        with self._database.writing() as connection:
            if new_jobs:
                check_jobs(connection, self._database, account, account.client, added=new_jobs, stored=False)
            now = self._database.read_now(connection)
            used = _add(connection, account.client, now, uploads=len(sizes), upload_bytes=sum(sizes))
            _check_uploads(account.limits, used.uploads, used.upload_bytes, sizes, now)

    def check_uploads(self, account: Account, sizes: Sequence[int], *, new_jobs: int) -> None:
        """Checks what `take_uploads` checks, and counts nothing.

        Args:
            account: the client.
            sizes: sizes of the files in bytes, at least 1 for a file of unknown size.
            new_jobs: number of jobs that the same request would submit.

        Raises:
            LimitExceeded: the client has reached a limit.
            QueueFull: the queue has too many pending jobs.
        """
        with self._database.reading() as connection:
            check_jobs(connection, self._database, account, account.client, added=new_jobs, stored=False)
            now = self._database.read_now(connection)
            used = connection.execute(_DAY, {"client": account.client, "day": day_of(now)}).one_or_none()
            uploads, upload_bytes = (used.uploads, used.upload_bytes) if used is not None else (0, 0)
            _check_uploads(account.limits, uploads + len(sizes), upload_bytes + sum(sizes), sizes, now)

    def read(self, *, days: int = 1, client: str | None = None) -> list[DayOfUse]:
        """Returns the use on the last days, with today, newest first. Days without use are left out.

        Args:
            days: number of days.
            client: reads only the use of this client.
        """
        with self._database.reading() as connection:
            first = day_of(self._database.read_now(connection)) - days + 1
            query = select(table).where(table.c.day >= first).order_by(table.c.day.desc(), table.c.client)
            if client is not None:
                query = query.where(table.c.client == client)
            return [DayOfUse(**row._mapping) for row in connection.execute(query)]

    def count_pending(self, client: str) -> int:
        """Returns the number of a client's pending jobs."""
        with self._database.reading() as connection:
            return int(connection.execute(_PENDING_OF_CLIENT, {"client": client}).scalar_one())

    def now(self) -> float:
        """Returns the database's time, in seconds since the epoch. Days begin by this clock."""
        with self._database.reading() as connection:
            return self._database.read_now(connection)

    def prune(self, *, older_than_seconds: float) -> None:
        """Forgets the days that are longer ago than this."""
        with self._database.writing() as connection:
            oldest = day_of(self._database.read_now(connection) - older_than_seconds)
            connection.execute(delete(table).where(table.c.day < oldest))


def day_of(now: float) -> int:
    """Returns the day of a time in seconds since the epoch."""
    return int(now // DAY_SECONDS)


def charge_attempt(connection: Connection, row: Row[Any], now: float) -> None:
    """Adds the time of a running attempt that is not charged yet to the use of the job's client.

    The caller has locked the job's row, and then writes `now` into `charged_until`, or ends the attempt.
    """
    if row.charged_until is not None and row.model != MOCK_MODEL and now > row.charged_until:
        _add(connection, row.client, now, gpu_seconds=now - row.charged_until)


def check_jobs(
    connection: Connection, database: Database, account: Account, client: str, *, added: int, stored: bool = True
) -> None:
    """Checks the limits on a client's jobs, in the transaction that adds pending jobs.

    On PostgreSQL this must follow the append of the jobs' events. The lock of the event log then makes submissions wait
    for each other, so that two can't take the last place.

    Args:
        connection: the open transaction.
        database: the database, whose clock tells the day.
        account: the limits.
        client: the client to whom the jobs are charged.
        added: number of new jobs.
        stored: whether the transaction has stored the new jobs already.

    Raises:
        LimitExceeded: the client has reached a limit.
        QueueFull: the queue has too many pending jobs.
    """
    limits, overall = account.limits, account.pending_jobs_overall
    if limits.gpu_seconds_per_day is not None:
        now = database.read_now(connection)
        used = connection.execute(_DAY, {"client": client, "day": day_of(now)}).one_or_none()
        if used is not None and used.gpu_seconds >= limits.gpu_seconds_per_day:
            raise _day_is_over("gpu_seconds_per_day", limits.gpu_seconds_per_day, f"{used.gpu_seconds:.0f} s", now)
    if limits.pending_jobs is None and overall is None:
        return
    of_client, of_all = (int(count) for count in connection.execute(_PENDING, {"client": client}).one())
    waiting = added if stored else 0
    if limits.pending_jobs is not None and of_client - waiting + added > limits.pending_jobs:
        raise LimitExceeded(
            f"The limit pending_jobs is {limits.pending_jobs}: {of_client - waiting} of your jobs are pending, and the "
            f"request adds {added}. Try again in {PENDING_RETRY_SECONDS} s, or when some of your jobs have ended.",
            param="pending_jobs",
            suggestions=["Wait for some of your jobs, or cancel them."],
            retry_after_seconds=PENDING_RETRY_SECONDS,
        )
    if overall is not None and of_all - waiting + added > overall:
        raise QueueFull(
            f"The queue is full: the limit pending_jobs_overall is {overall}, {of_all - waiting} jobs are pending, and "
            f"the request adds {added}. Try again in {PENDING_RETRY_SECONDS} s.",
            suggestions=["Send the request again when some jobs have ended."],
            retry_after_seconds=PENDING_RETRY_SECONDS,
        )


def _check_uploads(limits: ClientLimits, uploads: int, upload_bytes: int, sizes: Sequence[int], now: float) -> None:
    """Checks the numbers of a day's uploads, which contain the new ones."""
    if limits.uploads_per_day is not None and uploads > limits.uploads_per_day:
        raise _day_is_over("uploads_per_day", limits.uploads_per_day, f"{uploads - len(sizes)} files", now)
    if limits.upload_mb_per_day is not None and upload_bytes > limits.upload_mb_per_day * 1e6:
        before = f"{(upload_bytes - sum(sizes)) / 1e6:.1f} MB"
        raise _day_is_over("upload_mb_per_day", limits.upload_mb_per_day, before, now)


def _day_is_over(name: str, limit: float, used: str, now: float) -> LimitExceeded:
    resets_at = (day_of(now) + 1) * DAY_SECONDS
    return LimitExceeded(
        f"The limit {name} is {limit:.16g}, and {used} are used today. The count begins again at "
        f"{datetime.fromtimestamp(resets_at, UTC):%Y-%m-%dT%H:%M:%SZ}.",
        param=name,
        suggestions=["Send the request again after that time. GET /api/v1/usage shows your use."],
        retry_after_seconds=int(resets_at - now) + 1,
    )


def _add(connection: Connection, client: str, now: float, **used: float) -> Row[Any]:
    """Adds to a client's use of today, and returns the sums."""
    added = dict.fromkeys(_USED, 0) | used | {"client": client, "day": day_of(now)}
    return connection.execute(_add_statement(connection.dialect.name), added).one()


@cache
def _add_statement(dialect: str) -> Executable:
    row = insert_or_update(dialect, table).values({column.name: bindparam(column.name) for column in table.c})
    sums = {name: table.c[name] + row.excluded[name] for name in _USED}
    return row.on_conflict_do_update(index_elements=["day", "client"], set_=sums).returning(table)
