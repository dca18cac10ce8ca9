"""The use of the machine over the last days: one row a minute in the job database."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from sqlalchemy import delete, func, select

from deployments.jobs.database import Database, insert_or_update
from deployments.jobs.retention import STATS_SECONDS
from deployments.jobs.schema import stats_history

MAX_POINTS = 500
"""Number of points, plus one for a partial interval at the start, up to which a period is divided."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """Use of the machine at one time, or on average over an interval."""

    cpu_percent: float
    ram_used_gb: float
    ram_total_gb: float
    gpu_percent: float
    vram_used_mb: float
    vram_total_mb: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """The use of the machine over the last hours."""

    interval_seconds: int
    """Length of the interval over which each point is an average."""
    points: list[tuple[float, Use]]
    """Start of each interval, in seconds since the epoch, and the use; oldest first. Intervals in which the service
    did not run are left out."""


_AVERAGES = [func.avg(stats_history.c[item.name]).label(item.name) for item in fields(Use)]


class StatsHistory:
    """Reads and writes the history."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def add(self, node: str, use: Use) -> bool:
        """Stores the use for the present minute, and removes rows older than the retention.

        Args:
            node: name of the machine.
            use: the use of the machine.

        Returns:
            False if the minute has a row already, for example from another dispatcher. That row stays as it is.
        """
        minute = int(self._clock() // 60)
        row = insert_or_update(self._database.engine.dialect.name, stats_history)
        row = row.values(minute=minute, node=node[:255], **asdict(use))
        oldest = minute - STATS_SECONDS // 60
        with self._database.writing() as connection:
            inserted = connection.execute(row.on_conflict_do_nothing().returning(stats_history.c.minute))
            added = inserted.first() is not None
            if added:
                connection.execute(delete(stats_history).where(stats_history.c.minute < oldest))
        return added

    def read(self, hours: float) -> Period:
        """Returns the use over the last hours, averaged over equal intervals of whole minutes."""
        length = max(1, math.ceil(hours * 60 / MAX_POINTS))
        first = int((self._clock() - hours * 3600) // 60)
        interval = (stats_history.c.minute // length).label("interval")
        query = select(interval, *_AVERAGES).where(stats_history.c.minute >= first).group_by(interval)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(interval)).all()
        points = [
            (float(row.interval * length * 60), Use(**{item.name: getattr(row, item.name) for item in fields(Use)}))
            for row in rows
        ]
        return Period(interval_seconds=length * 60, points=points)
