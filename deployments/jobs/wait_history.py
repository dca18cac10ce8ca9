"""The length of the queue and the waiting times over the last days, computed from the jobs themselves."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Integer, cast, func, select

from deployments.jobs.database import Database
from deployments.jobs.schema import jobs

_MAX_POINTS = 120
"""Number of intervals up to which a period is divided."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """The queue in one interval."""

    begin: float
    """Start of the interval, in seconds since the epoch."""
    pending: int
    """Number of jobs that wait at its end."""
    started: int
    """Number of jobs that started in it for the first time."""
    wait_seconds: float | None
    """Average time between the submission and the start of these jobs; None without one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """The queue over the last hours."""

    interval_seconds: int
    points: list[Wait]
    """One for each interval, oldest first."""


class WaitHistory:
    """Reads the history. Deleted jobs are not part of it."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def read(self, hours: float) -> Waits:
        """Returns the queue over the last hours, in equal intervals of whole minutes. The last one is not over yet."""
        length = max(1, math.ceil(hours * 60 / _MAX_POINTS)) * 60
        last = int(self._clock() // length)
        first = int((self._clock() - hours * 3600) // length)
        begin = first * length
        # A job that ends without a start, such as a cancelled one, leaves the queue as well.
        left = func.coalesce(jobs.c.started_at, jobs.c.completed_at)
        waiting = (jobs.c.created_at < begin) & (left.is_(None) | (left >= begin))
        with self._database.reading() as connection:
            pending: int = connection.execute(select(func.count()).where(waiting)).scalar_one()
            arrived = self._interval(jobs.c.created_at, length)
            arrivals = connection.execute(
                select(arrived, func.count()).where(jobs.c.created_at >= begin).group_by(arrived)
            ).all()
            gone = self._interval(left, length)
            departures = connection.execute(select(gone, func.count()).where(left >= begin).group_by(gone)).all()
            began = self._interval(jobs.c.started_at, length)
            wait = func.avg(jobs.c.started_at - jobs.c.created_at)
            starts = connection.execute(
                select(began, func.count(), wait).where(jobs.c.started_at >= begin).group_by(began)
            ).all()
        more, fewer = ({row[0]: row[1] for row in rows} for rows in (arrivals, departures))
        started = {row[0]: (row[1], row[2]) for row in starts}
        points = []
        for index in range(first, last + 1):
            pending += more.get(index, 0) - fewer.get(index, 0)
            count, seconds = started.get(index, (0, None))
            points.append(Wait(begin=float(index * length), pending=pending, started=count, wait_seconds=seconds))
        return Waits(interval_seconds=length, points=points)

    def _interval(self, column: ColumnElement[float], length: int) -> ColumnElement[int]:
        """Returns the number of the interval in which a time lies."""
        # SQLite may lack floor(), and cuts the fraction off in a cast, where PostgreSQL rounds.
        is_sqlite = self._database.engine.dialect.name == "sqlite"
        return cast(column / length if is_sqlite else func.floor(column / length), Integer)
