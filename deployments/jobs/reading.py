"""Queries over the jobs. Each method is one short transaction that changes nothing."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, Text, cast, func, select

from deployments.jobs.database import Database
from deployments.jobs.job import ClaimState, Job, JobState
from deployments.jobs.rows import find_row, read_jobs, to_job
from deployments.jobs.schema import jobs
from wan22_bridge.types import INPUTS, GenerationParams


class JobReader:
    """Reads jobs for the API, the dispatcher and the generators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> Job:
        """Returns one job.

        Raises:
            JobNotFound: there is no job with this id.
        """
        with self._database.reading() as connection:
            return to_job(find_row(connection, job_id))

    def page(
        self,
        *,
        states: Sequence[JobState] = (),
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> list[Job]:
        """Returns a page of jobs.

        Args:
            states: returns only jobs in these states; an empty sequence stands for all states.
            after: id of the last job of the previous page.
            limit: the largest number of jobs to return.
            newest_first: whether to list the newest submission first, or the oldest.

        Raises:
            JobNotFound: there is no job `after`.
        """
        order = jobs.c.number.desc() if newest_first else jobs.c.number.asc()
        query = select(jobs).order_by(order).limit(limit)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self._database.reading() as connection:
            if after is not None:
                number = find_row(connection, after).number
                query = query.where(jobs.c.number < number if newest_first else jobs.c.number > number)
            return read_jobs(connection, query)

    def count(self) -> dict[JobState, int]:
        """Returns the number of jobs in each state."""
        with self._database.reading() as connection:
            rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        return dict.fromkeys(JobState, 0) | {JobState(state): count for state, count in rows}

    def count_by_model(self, state: JobState) -> dict[str, int]:
        """Returns the number of jobs in a state for each model that has any."""
        counted = select(jobs.c.model, func.count()).where(jobs.c.state == state).group_by(jobs.c.model)
        with self._database.reading() as connection:
            return {model: count for model, count in connection.execute(counted)}

    def output_bytes(self) -> int:
        """Returns the total size of all videos."""
        size = jobs.c.output["file_size_bytes"].as_integer()
        with self._database.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(size), 0))).scalar_one())

    def queue_positions(self) -> dict[str, int]:
        """Returns the queue position of every pending job by its id; 1 is the next job."""
        with self._database.reading() as connection:
            ids = connection.execute(_pending_in_order(select(jobs.c.id))).scalars()
            return {job_id: position for position, job_id in enumerate(ids, 1)}

    def next_pending(self, models: Collection[str], *, limit: int) -> list[Job]:
        """Returns the first pending jobs of some models, by priority and then by queue order."""
        query = _pending_in_order(select(jobs)).where(jobs.c.model.in_(models)).limit(limit)
        with self._database.reading() as connection:
            return read_jobs(connection, query)

    def run_times(self, model: str, *, limit: int = 50) -> list[tuple[GenerationParams, float]]:
        """Returns the newest completed jobs of a model, newest first, each with its run time in seconds."""
        ended = select(jobs.c.params, jobs.c.result).where(jobs.c.state == JobState.COMPLETED, jobs.c.model == model)
        with self._database.reading() as connection:
            rows = connection.execute(ended.order_by(jobs.c.number.desc()).limit(limit)).all()
        return [(GenerationParams.from_dict(row.params), row.result["generation_time_seconds"]) for row in rows]

    def using_lora(self, name: str) -> list[Job]:
        """Returns the pending and running jobs that use a LoRA, oldest first."""
        open_jobs = select(jobs).where(
            jobs.c.state.in_((JobState.PENDING, JobState.PROCESSING)),
            cast(jobs.c.params, Text).contains(json.dumps(name), autoescape=True),
        )
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

    def input_keys(self) -> set[str]:
        """Returns the storage keys of all inputs that any job refers to."""
        with self._database.reading() as connection:
            parameters = connection.execute(select(jobs.c.params)).scalars()
            return {params[name] for params in parameters for name in INPUTS if params.get(name)}


def _pending_in_order(query: Select[Any]) -> Select[Any]:
    """Restricts a query to the pending jobs and sorts them by priority and then by queue order."""
    return query.where(jobs.c.state == JobState.PENDING).order_by(
        jobs.c.priority.desc(), func.coalesce(jobs.c.rank, jobs.c.number)
    )
