"""What is read of the jobs: each method is one short transaction that changes nothing."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from deployments.jobs.database import Database
from deployments.jobs.job import ClaimState, Job, JobNotFound, JobState, Priority
from deployments.jobs.schema import jobs
from wan22_bridge.types import INPUTS, GenerationParams


class JobReader:
    """Jobs in SQLite or PostgreSQL."""

    database: Database

    def get(self, job_id: str) -> Job:
        """Reads one job.

        Raises:
            JobNotFound: there is none of that id.
        """
        with self.database.reading() as connection:
            return to_job(one_row(connection, job_id))

    def page(
        self,
        *,
        states: Sequence[JobState] = (),
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> list[Job]:
        """Reads a page of jobs.

        Args:
            states: only these; none is all.
            after: the id of the last job of the page before.
            limit: how many at the most.
            newest_first: the order of submission, or its reverse.

        Raises:
            JobNotFound: there is no job `after`.
        """
        order = jobs.c.number.desc() if newest_first else jobs.c.number.asc()
        query = select(jobs).order_by(order).limit(limit)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self.database.reading() as connection:
            if after is not None:
                number = one_row(connection, after).number
                query = query.where(jobs.c.number < number if newest_first else jobs.c.number > number)
            return to_jobs(connection, query)

    def count(self) -> dict[JobState, int]:
        """How many jobs there are in each state."""
        with self.database.reading() as connection:
            rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        return dict.fromkeys(JobState, 0) | {JobState(state): count for state, count in rows}

    def output_bytes(self) -> int:
        """The size of all videos together."""
        size = jobs.c.output["file_size_bytes"].as_integer()
        with self.database.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(size), 0))).scalar_one())

    def queue_positions(self) -> dict[str, int]:
        """The pending jobs in the order in which they go, 1 for the next."""
        with self.database.reading() as connection:
            ids = connection.execute(_in_turn(select(jobs.c.id))).scalars()
            return {job_id: position for position, job_id in enumerate(ids, 1)}

    def run_times(self, model: str, *, limit: int = 50) -> list[tuple[GenerationParams, float]]:
        """The jobs of a model that were completed last, the newest first, each with the seconds that it ran."""
        ended = select(jobs.c.params, jobs.c.result).where(jobs.c.state == JobState.COMPLETED, jobs.c.model == model)
        with self.database.reading() as connection:
            rows = connection.execute(ended.order_by(jobs.c.number.desc()).limit(limit)).all()
        return [(GenerationParams.from_dict(row.params), row.result["generation_time_seconds"]) for row in rows]

    def count_by_model(self, state: JobState) -> dict[str, int]:
        """How many jobs in a state there are of each model."""
        counted = select(jobs.c.model, func.count()).where(jobs.c.state == state).group_by(jobs.c.model)
        with self.database.reading() as connection:
            return {model: count for model, count in connection.execute(counted)}

    def next_pending(self, models: Collection[str], *, limit: int) -> list[Job]:
        """The first pending jobs of some models: the highest priority first, then by rank."""
        query = _in_turn(select(jobs)).where(jobs.c.model.in_(models)).limit(limit)
        with self.database.reading() as connection:
            return to_jobs(connection, query)

    def claim_state(self, job_id: str, fencing_token: int) -> ClaimState:
        """Whether the claim still stands: what a generator asks while it works."""
        with self.database.reading() as connection:
            row = connection.execute(
                select(jobs.c.state, jobs.c.fencing_token, jobs.c.cancel_requested, jobs.c.yield_token).where(
                    jobs.c.id == job_id
                )
            ).one_or_none()
        if row is None or row.fencing_token != fencing_token or row.cancel_requested:
            return ClaimState.LOST
        held = ClaimState.YIELDING if row.yield_token == fencing_token else ClaimState.HELD
        states = {JobState.PROCESSING: held, JobState.PENDING: ClaimState.GIVEN_BACK}
        return states.get(JobState(row.state), ClaimState.LOST)

    def input_keys(self) -> set[str]:
        """The storage keys of every input that a job refers to."""
        with self.database.reading() as connection:
            parameters = connection.execute(select(jobs.c.params)).scalars()
            return {params[name] for params in parameters for name in INPUTS if params.get(name)}


def _in_turn(query: Select[Any]) -> Select[Any]:
    """The pending jobs as the queue orders them: the highest priority first, then as its users have them."""
    return query.where(jobs.c.state == JobState.PENDING).order_by(
        jobs.c.priority.desc(), func.coalesce(jobs.c.rank, jobs.c.number)
    )


def one_row(connection: Connection, job_id: str, *, lock: bool = False) -> Row[Any]:
    query = select(jobs).where(jobs.c.id == job_id)
    row = None
    if "\x00" not in job_id:  # which PostgreSQL refuses to compare with
        row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise JobNotFound(f"There is no job {job_id[:80]!r}.", suggestions=["List the jobs to find its id."])
    return row


def to_jobs(connection: Connection, query: Select[Any]) -> list[Job]:
    return [to_job(row) for row in connection.execute(query)]


def to_job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    for name in ("model", "idempotency_key", "request_hash"):
        del values[name]
    values["rank"] = values["number"] if values["rank"] is None else values["rank"]
    values["state"] = JobState(values["state"])
    values["priority"] = Priority(values["priority"])
    values["params"] = GenerationParams.from_dict(values["params"])
    return Job(**values)
