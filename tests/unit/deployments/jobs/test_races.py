"""Writers that race each other on PostgreSQL, which locks rows one by one, never wait for each other in a circle."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from uuid import uuid4

import psycopg
import pytest

from deployments.jobs.attempts import Interruption
from deployments.jobs.job import Job, JobState
from deployments.jobs.store import JobStore
from tests.jobs import make_job
from wan22_bridge.errors import Conflict, NotFound

_JOBS = 24
_ROUNDS = 25


@pytest.fixture
def store(postgres: str) -> Iterator[JobStore]:
    """An empty store on PostgreSQL."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    opened = JobStore(postgres.replace("/postgres?", f"/{name}?"))
    yield opened
    opened.database.close()


def _race(*actions: Callable[[], object]) -> None:
    """Runs all actions in threads of their own, which begin together; an error of any of them propagates.

    PostgreSQL breaks a deadlock by an error in one of the transactions.
    """
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> None:
        barrier.wait()
        action()

    with ThreadPoolExecutor(len(actions)) as threads:
        for future in [threads.submit(run, action) for action in actions]:
            future.result()


def test_racing_changes_of_the_queue_never_deadlock(store: JobStore) -> None:
    pending = [store.writer.submit(make_job()) for _ in range(_JOBS // 2)]
    pending += store.writer.submit_batch([make_job() for _ in range(_JOBS // 2)])
    ids, batch_id = [job.id for job in pending], pending[-1].batch_id
    assert batch_id is not None

    def repeat(action: Callable[[random.Random], object], seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(_ROUNDS):
            with suppress(Conflict, NotFound):
                action(chance)

    def claim_and_interrupt(chance: random.Random) -> None:
        job = store.runner.claim(chance.choice(ids), lease_seconds=60)
        if job is not None:
            store.runner.give_back(job.id, job.fencing_token, Interruption.PROCESS_DIED, max_attempts=1000)

    def claim_and_crash(chance: random.Random) -> None:
        store.runner.claim(chance.choice(ids), lease_seconds=0)
        store.runner.reclaim_expired(max_attempts=1000)

    def cancel_and_retry(chance: random.Random) -> None:
        job_id = chance.choice(ids)
        store.writer.request_cancel(job_id)
        store.writer.retry(job_id)

    def cancel_batch_and_retry(chance: random.Random) -> None:
        for job in store.batches.request_cancel(batch_id).jobs:
            with suppress(Conflict):
                store.writer.retry(job.id)

    def reorder(chance: random.Random) -> None:
        store.writer.reorder(chance.sample(ids, _JOBS))

    def clear(chance: random.Random) -> None:
        store.queue.clear()

    actions = [reorder, reorder, reorder, claim_and_interrupt, claim_and_crash, cancel_and_retry]
    actions += [cancel_batch_and_retry, clear, clear]
    _race(*(partial(repeat, action, seed) for seed, action in enumerate(actions)))

    # The counts are right, and no two pending jobs have the same place.
    found = store.reader.page(limit=1000)
    assert len(found) == _JOBS
    counts = store.reader.count()
    assert {state: count for state, count in counts.items() if count} == _count(found)
    places = [job.queue_order for job in found]
    assert len(set(places)) == len(places)


def _count(found: list[Job]) -> dict[JobState, int]:
    states = [job.state for job in found]
    return {state: states.count(state) for state in set(states)}
