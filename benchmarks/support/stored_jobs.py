"""Stores very many jobs at once, as copies of one job."""

import secrets
from collections import Counter

from sqlalchemy import func, insert, select

from deployments.jobs.counting import Group, add_to_group, block_of
from deployments.jobs.job import JOB_ID_PREFIX, JobState
from deployments.jobs.schema import jobs
from deployments.jobs.store import JobStore


def store_copies(store: JobStore, job_id: str, count: int, state: JobState) -> list[str]:
    """Stores copies of a job in one transaction, counts them, and returns their ids in the order of submission.

    Args:
        store: an open store.
        job_id: the job to copy.
        count: number of copies.
        state: their state, pending or completed.
    """
    groups: Counter[Group] = Counter()
    with store.database.writing() as connection:
        template = dict(connection.execute(select(jobs).where(jobs.c.id == job_id)).one()._mapping)
        last = connection.execute(select(func.max(jobs.c.number))).scalar_one()
        rows = []
        for number in range(last + 1, last + 1 + count):
            own = {"id": JOB_ID_PREFIX + secrets.token_hex(12), "number": number, "rank": number, "state": state}
            rows.append(template | own | {"stage": "queued" if state is JobState.PENDING else state.value})
            place = (template["priority"], block_of(number)) if state is JobState.PENDING else ()
            groups[Group(state, template["model"], False, template["owner"], *place)] += 1
        connection.execute(insert(jobs), rows)
        size_bytes = (template["output"] or {}).get("file_size_bytes", 0)
        for group, members in groups.items():
            add_to_group(connection, group, jobs=members, video_bytes=members * size_bytes)
    return [row["id"] for row in rows]
