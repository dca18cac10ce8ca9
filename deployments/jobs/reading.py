"""Queries over the jobs. Each method is one short transaction that changes nothing."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Text, and_, bindparam, cast, func, select

from deployments.jobs.database import Database
from deployments.jobs.job import ClaimState, Job, JobState, Priority
from deployments.jobs.rows import find_number, read_job, read_jobs
from deployments.jobs.schema import deleted_jobs, job_counts, jobs
from wan22_bridge.errors import Conflict, NotFound
from wan22_bridge.types import GenerationParams

_COUNTS = select(job_counts.c.state, func.sum(job_counts.c.jobs)).group_by(job_counts.c.state)
_LISTED_COUNTS = _COUNTS.where(job_counts.c.hidden.is_(False))
_LEAVING = select(
    func.count().label("count"),
    func.coalesce(func.sum(jobs.c.output["file_size_bytes"].as_float()), 0).label("size_bytes"),
).where(jobs.c.deletion_due_at > 0)
_PENDING_MODELS = (
    select(job_counts.c.model).where(job_counts.c.state == JobState.PENDING, job_counts.c.jobs > 0).distinct()
)
_RUN_TIMES = 50
"""Number of completed jobs from which run times are estimated."""
_newest = jobs.c.number.desc()
_completed = and_(jobs.c.state == JobState.COMPLETED, jobs.c.model == bindparam("model"))
_COMPLETED = select(jobs.c.params, jobs.c.result).where(_completed).order_by(_newest).limit(_RUN_TIMES)
_COMPLETED_VERSION = select(
    select(jobs.c.number).where(_completed).order_by(_newest).limit(1).scalar_subquery(),
    select(func.sum(job_counts.c.jobs))
    .where(job_counts.c.state == JobState.COMPLETED, job_counts.c.model == bindparam("model"))
    .scalar_subquery(),
)
"""The newest completed job of a model, and the number of completed ones: both stay if the completed jobs stay."""


class JobReader:
    """Reads jobs for the API, the dispatcher and the generators.

    With an `owner`, the jobs of other owners do not exist for a method.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._run_times: dict[str, tuple[object, list[tuple[GenerationParams, float]]]] = {}
        """The result of `run_times` for each model, and the version of the completed jobs that it was read from."""

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """Returns one job.

        Raises:
            JobNotFound: there is no job with this id.
        """
        with self._database.reading() as connection:
            return read_job(connection, job_id, owner=owner)

    def completed(self, job_id: str, *, owner: str | None = None) -> Job:
        """Returns a job that has a video.

        Raises:
            JobNotFound: the job does not exist.
            Conflict: the job has no video yet.
            NotFound: the job ended without a video.
        """
        job = self.get(job_id, owner=owner)
        if job.state is JobState.COMPLETED:
            return job
        if job.state.ended:
            end = "failed" if job.state is JobState.FAILED else "was cancelled"
            raise NotFound(f"{job.id} has no video: the job {end}.", code="video_not_available")
        raise Conflict(
            f"{job.id} has no video yet: the job is {job.state}, at {job.progress:.0f} %.",
            code="video_not_ready",
            suggestions=[f"Poll GET /api/v1/generation/{job.id} until status is completed."],
            can_retry=True,
        )

    def page(
        self,
        *,
        states: Sequence[JobState] = (),
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = True,
        owner: str | None = None,
    ) -> list[Job]:
        """Returns a page of jobs, without those whose video is about to be deleted.

        Args:
            states: returns only jobs in these states; an empty sequence stands for all states.
            after: id of the last job of the previous page, which may have been deleted since.
            limit: the largest number of jobs to return.
            newest_first: whether to list the newest submission first, or the oldest.
            owner: lists only the jobs of this owner.

        Raises:
            JobNotFound: there is no job `after`.
        """
        with self._database.reading() as connection:
            return read_page(connection, select(jobs), states, after, limit, newest_first, owner=owner)

    def count(self, *, owner: str | None = None) -> dict[JobState, int]:
        """Returns the number of jobs in each state, as `page` lists them."""
        with self._database.reading() as connection:
            return read_counts(connection, owner=owner)

    def count_by_model(self, state: JobState) -> dict[str, int]:
        """Returns the number of jobs in a state for each model that has any."""
        total = func.sum(job_counts.c.jobs)
        counted = select(job_counts.c.model, total).where(job_counts.c.state == state).group_by(job_counts.c.model)
        with self._database.reading() as connection:
            return {model: int(count) for model, count in connection.execute(counted)}

    def output_bytes(self, *, owner: str | None = None) -> int:
        """Returns the total size of all videos."""
        with self._database.reading() as connection:
            return read_output_bytes(connection, owner=owner)

    def next_pending(self, models: Collection[str], *, limit: int) -> list[Job]:
        """Returns the first pending jobs of some models, by priority and then by queue order."""
        with self._database.reading() as connection:
            # The search for a model that has no pending jobs would read the whole queue.
            present = set(connection.execute(_PENDING_MODELS).scalars()).intersection(models)
            return read_pending(connection, select(jobs).where(jobs.c.model.in_(present)), limit) if present else []

    def run_times(self, model: str) -> list[tuple[GenerationParams, float]]:
        """Returns the newest completed jobs of a model, newest first, each with its run time in seconds.

        Decoding them costs more than a whole submission, so they are read again only when another job is completed.
        """
        with self._database.reading() as connection:
            version = tuple(connection.execute(_COMPLETED_VERSION, {"model": model}).one())
            read, found = self._run_times.get(model, (None, []))
            if read != version:
                found = [
                    (GenerationParams.from_dict(row.params), row.result["generation_time_seconds"])
                    for row in connection.execute(_COMPLETED, {"model": model})
                ]
                self._run_times[model] = version, found
        return found

    def using_lora(self, name: str, *, owner: str | None = None) -> list[Job]:
        """Returns the pending and running jobs that use a LoRA, oldest first."""
        open_jobs = select(jobs).where(
            jobs.c.state.in_((JobState.PENDING, JobState.PROCESSING)),
            cast(jobs.c.params, Text).contains(json.dumps(name), autoescape=True),
        )
        if owner is not None:
            open_jobs = open_jobs.where(jobs.c.owner == owner)
        with self._database.reading() as connection:
            found = read_jobs(connection, open_jobs.order_by(jobs.c.number))
        return [job for job in found if any(use.name == name for use in job.params.loras)]

    def claim_state(self, job_id: str, fencing_token: int) -> ClaimState:
        """Returns the state of a claim, which its generator polls while it works."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(jobs.c.state, jobs.c.fencing_token, jobs.c.cancel_requested, jobs.c.yield_token).where(
                    jobs.c.id == job_id
                )
            ).one_or_none()
        if row is None or row.fencing_token != fencing_token or row.cancel_requested:
            return ClaimState.LOST
        held = ClaimState.PREEMPTED if row.yield_token == fencing_token else ClaimState.HELD
        states = {JobState.PROCESSING: held, JobState.PENDING: ClaimState.GIVEN_BACK}
        return states.get(JobState(row.state), ClaimState.LOST)

    def output_folders(self, job_ids: Sequence[str]) -> dict[str, str | None]:
        """Returns the storage keys of the videos' folders of some jobs by their ids; ids of no job are missing.

        The key is None for a job that has not ended, and empty for a job that has no video, or was deleted.
        """
        folder = jobs.c.output["folder"].as_string()
        with self._database.reading() as connection:
            deleted = select(deleted_jobs.c.id).where(deleted_jobs.c.id.in_(job_ids))
            folders: dict[str, str | None] = dict.fromkeys(connection.execute(deleted).scalars(), "")
            for row in connection.execute(select(jobs.c.id, jobs.c.state, folder).where(jobs.c.id.in_(job_ids))):
                folders[row.id] = (row[2] or "") if JobState(row.state).ended else None
        return folders


def read_page(
    connection: Connection,
    query: Select[Any],
    states: Sequence[JobState],
    after: str | None,
    limit: int,
    newest_first: bool = True,
    *,
    owner: str | None = None,
) -> list[Job]:
    """Reads a page of the jobs of a query; see `JobReader.page`."""
    # An expression, because SQLite would prefer the index of this column, in which nearly all jobs are equal.
    query = query.where(func.coalesce(jobs.c.deletion_due_at, 0) == 0)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    if states:
        query = query.where(jobs.c.state.in_(states))
    if after is not None:
        number = find_number(connection, after, owner=owner)
        query = query.where(jobs.c.number < number if newest_first else jobs.c.number > number)
    order = jobs.c.number.desc() if newest_first else jobs.c.number.asc()
    return read_jobs(connection, query.order_by(order).limit(limit))


def read_pending(connection: Connection, query: Select[Any], limit: int) -> list[Job]:
    """Reads the first pending jobs of a query, by priority and then by queue order."""
    found: list[Job] = []
    for priority in sorted(Priority, reverse=True):  # a query for each priority needs no sorting
        same = query.where(jobs.c.state == JobState.PENDING, jobs.c.priority == int(priority))
        if len(found) < limit:
            found += read_jobs(connection, same.order_by(jobs.c.rank).limit(limit - len(found)))
    return found


def read_counts(connection: Connection, *, hidden: bool = True, owner: str | None = None) -> dict[JobState, int]:
    """Reads the number of jobs in each state, without those whose video is about to be deleted.

    Args:
        connection: an open transaction.
        hidden: whether to count the jobs that are hidden from the queue.
        owner: counts only the jobs of this owner.
    """
    counts = _COUNTS if hidden else _LISTED_COUNTS
    rows = connection.execute(counts if owner is None else counts.where(job_counts.c.owner == owner))
    found = dict.fromkeys(JobState, 0) | {JobState(state): int(count) for state, count in rows}
    found[JobState.COMPLETED] -= read_leaving(connection, hidden=hidden, owner=owner)[0]
    return found


def read_leaving(connection: Connection, *, hidden: bool = True, owner: str | None = None) -> tuple[int, int]:
    """Reads the number and the size of the videos that are about to be deleted; see `read_counts`."""
    # Expressions, because SQLite would prefer the indexes of these columns to the one that finds the few videos.
    query = _LEAVING if hidden else _LEAVING.where(func.coalesce(jobs.c.hidden, True).is_(False))
    row = connection.execute(query if owner is None else query.where(func.coalesce(jobs.c.owner, "") == owner)).one()
    return int(row[0]), int(row[1])


def read_output_bytes(connection: Connection, *, owner: str | None = None) -> int:
    """Reads the total size of all videos; with an `owner`, of the videos of this owner."""
    total = select(func.coalesce(func.sum(job_counts.c.video_bytes), 0))
    if owner is not None:
        total = total.where(job_counts.c.owner == owner)
    return int(connection.execute(total).scalar_one())
