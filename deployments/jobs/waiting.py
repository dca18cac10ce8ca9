"""The progress of jobs that wait for the download of their model.

A download is recorded once, however many jobs wait for it. Its progress is filled into the jobs when they are read.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from deployments.jobs.job import Event, Job, JobState, scheduled_model
from deployments.jobs.schema import model_downloads
from wan22_bridge.types import Stage

_DOWNLOADS = select(model_downloads)
_DATA_KEY = "download"
_KEY_LENGTH = 64
"""Length of the column. Two models with the same key only wake the streams of each other's jobs."""


def fill_downloads(connection: Connection, found: list[Job]) -> list[Job]:
    """Returns jobs of which the pending ones have the stage and the progress of their models' downloads."""
    if not any(job.state is JobState.PENDING for job in found):
        return found
    downloads = {row.model: row for row in connection.execute(_DOWNLOADS)}
    return [_fill(job, downloads[job.params.model]) if _waits(job, downloads) else job for job in found]


def _waits(job: Job, models: dict[str, Any]) -> bool:
    return job.state is JobState.PENDING and scheduled_model(job.params) in models


def _fill(job: Job, download: Any) -> Job:
    stage = Stage.DOWNLOADING_MODEL.value
    return replace(job, stage=stage, progress=download.progress, eta_seconds=download.eta_seconds)


def download_key(model: str) -> str:
    """Returns the text that takes the place of a job's id in the events of a model's download."""
    return f"download:{model}"[:_KEY_LENGTH]


def event_data(model: str) -> dict[str, Any]:
    """Returns the data of an event which says that the download of a model has advanced or ended."""
    return {_DATA_KEY: {"model": model}}


def downloaded_model(event: Event) -> str | None:
    """Returns the model whose download has advanced or ended; None for an event of another kind."""
    return event.data[_DATA_KEY]["model"] if _DATA_KEY in event.data else None


def stream_keys(job: Job) -> Sequence[str]:
    """Returns the job ids of all events that concern a job: its own, and those of its model's download."""
    return job.id, download_key(job.params.model)
