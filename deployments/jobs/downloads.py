"""Downloads of models for which jobs wait: their progress, and the end of the jobs if one fails.

Each method is one short transaction.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import delete, select

from deployments.jobs.database import Database, insert_or_update
from deployments.jobs.events import EventLog
from deployments.jobs.job import Job, JobState
from deployments.jobs.rows import change_job, ended_values, mock_values, read_jobs
from deployments.jobs.schema import jobs, model_downloads
from wan22_bridge.types import Progress

_CHANGED_AT_ONCE = 100
"""Number of jobs that one transaction changes."""
_PAUSE_SECONDS = 0.01
"""Pause between two transactions, in which other writers have their turn."""


class Downloads:
    """Writes downloads, on behalf of the dispatcher."""

    def __init__(self, database: Database, events: EventLog, clock: Callable[[], float]) -> None:
        self._database, self._events, self._clock = database, events, clock

    def record(self, model: str, progress: Progress) -> None:
        """Writes the progress of a download. The pending jobs of the model show it from then on."""
        values = {"progress": progress.percent, "eta_seconds": progress.eta_seconds}
        row = insert_or_update(self._database.engine.dialect.name, model_downloads).values(model=model, **values)
        with self._database.writing() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["model"], set_=values))
            self._events.append_download(connection, model)

    def end(self, model: str) -> None:
        """Ends a download, if there is one. The pending jobs of the model wait for a generator from then on."""
        with self._database.writing() as connection:
            if connection.execute(delete(model_downloads).where(model_downloads.c.model == model)).rowcount:
                self._events.append_download(connection, model)

    def fail(self, model: str, error: Mapping[str, Any]) -> None:
        """Ends a download that has failed, and fails all pending jobs of the model."""
        self._change_pending(model, lambda job: ended_values(JobState.FAILED, self._clock()) | {"error": dict(error)})

    def mock(self, model: str, reason: str) -> None:
        """Ends a download that has failed, and turns all pending jobs of the model into mock jobs."""
        self._change_pending(model, lambda job: mock_values(job, reason))

    def _change_pending(self, model: str, values: Callable[[Job], Mapping[str, Any]]) -> None:
        """Changes the pending jobs of a model in short transactions, because other writers of SQLite wait for each."""
        pending = select(jobs).where(jobs.c.state == JobState.PENDING, jobs.c.model == model).limit(_CHANGED_AT_ONCE)
        while True:
            with self._database.writing() as connection:
                waiting = read_jobs(connection, pending.with_for_update(skip_locked=True))
                for job in waiting:
                    change_job(connection, self._events, job.id, values(job))
                if len(waiting) < _CHANGED_AT_ONCE:
                    connection.execute(delete(model_downloads).where(model_downloads.c.model == model))
                    return
            time.sleep(_PAUSE_SECONDS)
