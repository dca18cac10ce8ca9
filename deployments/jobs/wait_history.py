"""The length of the queue and the waiting times over the last days, computed from the jobs themselves."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from sqlalchemy import ColumnElement, Integer, cast, func, select

from deployments.jobs.database import Database
from deployments.jobs.schema import jobs

MAX_HOURS = 168
"""Longest period."""
_MAX_POINTS = 120
"""Number of intervals up to which a period is divided."""
_REREAD_SECONDS = 30.0
"""Time for which all periods are answered from the same reading of the jobs."""
_MINUTE = 60


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Minutes:
    """The queue in each minute in which something happened, by the minutes since the epoch."""

    read_at: float
    first: int
    pending: int
    """Number of jobs that waited when the first minute began."""
    added: dict[int, int]
    left: dict[int, int]
    started: dict[int, tuple[int, float]]
    """Number of jobs that started, and the sum of their waiting times in seconds."""


class WaitHistory:
    """Reads the history. Deleted jobs are not part of it.

    No index holds these times, so a reading goes through all jobs. Therefore a process reads them at most every 30
    seconds, once for all periods.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._lock = Lock()
        self._minutes: _Minutes | None = None

    def read(self, hours: float) -> Waits:
        """Returns the queue over the last hours, in equal intervals of whole minutes. The last one is not over yet.

        The answer may be 30 seconds old.

        Args:
            hours: length of the period, at most `MAX_HOURS`.
        """
        with self._lock:
            minutes = self._minutes
            if minutes is None or not 0 <= self._clock() - minutes.read_at < _REREAD_SECONDS:
                minutes = self._minutes = self._read_minutes()
        length = max(1, math.ceil(hours * 60 / _MAX_POINTS))
        last = int(minutes.read_at // (length * _MINUTE))
        first = int((minutes.read_at - hours * 3600) // (length * _MINUTE))
        pending = minutes.pending + sum(
            minutes.added.get(minute, 0) - minutes.left.get(minute, 0)
            for minute in range(minutes.first, first * length)
        )
        points = []
        for index in range(first, last + 1):
            within = range(index * length, (index + 1) * length)
            pending += sum(minutes.added.get(minute, 0) - minutes.left.get(minute, 0) for minute in within)
            starts = [minutes.started[minute] for minute in within if minute in minutes.started]
            started = sum(count for count, _ in starts)
            wait = sum(seconds for _, seconds in starts) / started if started else None
            begin = float(index * length * _MINUTE)
            points.append(Wait(begin=begin, pending=pending, started=started, wait_seconds=wait))
        return Waits(interval_seconds=length * _MINUTE, points=points)

    def _read_minutes(self) -> _Minutes:
        now = self._clock()
        longest = math.ceil(MAX_HOURS * 60 / _MAX_POINTS) * _MINUTE  # the first interval begins before its period
        first = int((now - MAX_HOURS * 3600 - longest) // _MINUTE)
        begin = first * _MINUTE
        # A job that ends without a start, such as a cancelled one, leaves the queue as well.
        left = func.coalesce(jobs.c.started_at, jobs.c.completed_at)
        waiting = (jobs.c.created_at < begin) & (left.is_(None) | (left >= begin))
        added, gone, began = (self._minute(column) for column in (jobs.c.created_at, left, jobs.c.started_at))
        wait = func.sum(jobs.c.started_at - jobs.c.created_at)
        with self._database.reading() as connection:
            pending: int = connection.execute(select(func.count()).where(waiting)).scalar_one()
            arrivals = select(added, func.count()).where(jobs.c.created_at >= begin).group_by(added)
            departures = select(gone, func.count()).where(left >= begin).group_by(gone)
            starts = select(began, func.count(), wait).where(jobs.c.started_at >= begin).group_by(began)
            return _Minutes(
                read_at=now,
                first=first,
                pending=pending,
                added={minute: count for minute, count in connection.execute(arrivals)},
                left={minute: count for minute, count in connection.execute(departures)},
                started={minute: (count, seconds) for minute, count, seconds in connection.execute(starts)},
            )

    def _minute(self, column: ColumnElement[float]) -> ColumnElement[int]:
        """Returns the minute since the epoch in which a time lies."""
        # SQLite may lack floor(), and cuts the fraction off in a cast, where PostgreSQL rounds.
        is_sqlite = self._database.engine.dialect.name == "sqlite"
        return cast(column / _MINUTE if is_sqlite else func.floor(column / _MINUTE), Integer)
