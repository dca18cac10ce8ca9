"""Traces from the history of a job database."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from deployments.jobs.job import JobState
from deployments.jobs.store import JobStore
from deployments.simulation.traces import ModelTimes, TraceJob
from wan22_bridge.errors import InvalidRequest

_PAGE = 1000


def read_store(url: str, times: Mapping[str, ModelTimes]) -> list[TraceJob]:
    """Reads the completed jobs of a database as a trace, in the order of submission.

    The first job arrives at time 0. Jobs of models without known times are left out.

    Args:
        url: URL of the database.
        times: the times of each model.

    Raises:
        InvalidRequest: the database can't be read, or has no completed job of a model with known times.
        ConfigurationError: the URL does not name a supported database.
    """
    try:
        file = make_url(url)
        if file.get_backend_name() == "sqlite" and not Path(file.database or "").is_file():
            raise InvalidRequest(f"There is no database {file.database}.", code="bad_trace")
        return _read(JobStore(url, migrate=False), times)
    except SQLAlchemyError as exc:
        raise InvalidRequest(
            "The job database can't be read.",
            code="bad_trace",
            suggestions=[
                "Start this version of the service on the database once, because that creates and migrates its tables."
            ],
        ) from exc


def _read(store: JobStore, times: Mapping[str, ModelTimes]) -> list[TraceJob]:
    found, after, first = list[TraceJob](), None, None
    while page := store.reader.page(states=[JobState.COMPLETED], after=after, limit=_PAGE, newest_first=False):
        after = page[-1].id
        for job in page:
            if job.params.model in times and job.result is not None:
                first = job.created_at if first is None else first
                run_seconds = job.result["generation_time_seconds"]
                loras = tuple(sorted(use.name for use in job.params.loras))
                found.append(
                    TraceJob(
                        at=job.created_at - first,
                        model=job.params.model,
                        run_seconds=run_seconds,
                        owner=job.owner,
                        priority=int(job.priority),
                        loras=loras,
                    )
                )
    store.database.close()
    if not found:
        raise InvalidRequest("The database has no completed job of a model with known times.", code="bad_trace")
    return found
