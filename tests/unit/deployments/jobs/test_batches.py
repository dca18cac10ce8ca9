"""Batches in the job store, on SQLite and on PostgreSQL."""

import threading
from dataclasses import replace

import pytest

from deployments.jobs.job import (
    BatchEnded,
    BatchNotFound,
    ClaimState,
    IdempotencyConflict,
    Job,
    JobEnded,
    JobState,
    NewJob,
)
from deployments.jobs.store import JobStore
from tests.jobs import make_job, make_params
from tests.unit.conftest import Clock
from wan22_bridge.types import Progress, Stage


def make_batch(*seeds: int, **changes: object) -> list[NewJob]:
    return [make_job(params=make_params(seed=seed), **changes) for seed in seeds]


@pytest.fixture
def batch(store: JobStore) -> list[Job]:
    """Three pending jobs."""
    return store.writer.submit_batch(make_batch(1, 2, 3))


def find(store: JobStore, batch: list[Job]) -> tuple[JobState, float]:
    assert batch[0].batch_id is not None
    found = store.batches.find(batch[0].batch_id)
    return found.state, found.progress


def complete(store: JobStore, job: Job) -> None:
    store.runner.claim(job.id, lease_seconds=10)
    store.runner.complete(job.id, 1, output={"folder": "x"}, result={"generation_time_seconds": 1.0})


def fail(store: JobStore, job: Job) -> None:
    store.runner.claim(job.id, lease_seconds=10)
    store.runner.fail(job.id, 1, {"message": "It broke."})


def test_the_jobs_of_a_batch_share_an_id_and_keep_their_order(store: JobStore, batch: list[Job]) -> None:
    assert [job.params.seed for job in batch] == [1, 2, 3]
    assert len({job.id for job in batch}) == 3
    assert len({job.batch_id for job in batch}) == len({job.created_at for job in batch}) == 1
    assert batch[0].batch_id is not None
    assert batch[0].batch_id.startswith("batch_")
    found = store.batches.find(batch[0].batch_id)
    assert found.jobs == batch
    assert found.positions == {job.id: position for position, job in enumerate(batch, start=1)}
    assert store.reader.next_pending(["tiny-t2v"], limit=9) == batch
    assert [event.job_id for event in store.events.after(0)] == [job.id for job in batch]
    assert store.reader.count()[JobState.PENDING] == 3


def test_one_job_is_no_batch(store: JobStore) -> None:
    assert store.writer.submit(make_job()).batch_id is None
    [job] = store.writer.submit_batch([make_job()])
    assert job.batch_id is None


@pytest.mark.parametrize("batch_id", ["batch_none", "", "video_1", "\x00", "batch_" + "x" * 100_000])
def test_an_unknown_batch_is_not_found(store: JobStore, batch: list[Job], batch_id: str) -> None:
    for call in (store.batches.find, store.batches.request_cancel):
        with pytest.raises(BatchNotFound) as caught:
            call(batch_id)
        assert len(caught.value.message) < 200
    assert store.reader.count()[JobState.PENDING] == 3


def test_a_job_outside_a_batch_has_no_batch_to_find(store: JobStore) -> None:
    store.writer.submit(make_job())
    with pytest.raises(BatchNotFound):
        store.batches.find("None")


def test_a_batch_that_can_not_be_stored_whole_leaves_no_job(store: JobStore) -> None:
    unstorable = make_batch(1, 2)
    unstorable[1] = replace(unstorable[1], metadata={"a": object()})  # type: ignore[dict-item]
    with pytest.raises(Exception, match="JSON serializable"):
        store.writer.submit_batch(unstorable)
    assert store.reader.count() == dict.fromkeys(JobState, 0)
    assert store.events.after(0) == []


def test_a_repeated_idempotency_key_returns_the_whole_batch(store: JobStore) -> None:
    def submit(*seeds: int, request_hash: str = "a") -> list[Job]:
        return store.writer.submit_batch(make_batch(*seeds, idempotency_key="k", request_hash=request_hash))

    first = submit(1, 2, 3)
    assert submit(4, 5, 6) == first
    for seeds in ((1, 2), (1,)):
        with pytest.raises(IdempotencyConflict):
            submit(*seeds, request_hash="b")
    store.writer.delete(first[1].id)
    assert submit(1, 2, 3) == [first[0], first[2]]
    assert store.reader.count()[JobState.PENDING] == 2


def test_concurrent_requests_with_one_key_store_one_batch(store: JobStore) -> None:
    stored = []
    barrier = threading.Barrier(6)

    def submit() -> None:
        barrier.wait()
        stored.append(store.writer.submit_batch(make_batch(1, 2, 3, idempotency_key="k", request_hash="a")))

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == 6
    assert all(jobs == stored[0] for jobs in stored)
    assert store.reader.count()[JobState.PENDING] == 3


def test_the_state_of_a_batch_follows_its_jobs(store: JobStore, batch: list[Job]) -> None:
    assert find(store, batch) == (JobState.PENDING, 0.0)
    store.runner.claim(batch[0].id, lease_seconds=10)
    store.runner.record_progress(batch[0].id, 1, Progress(stage=Stage.GENERATING, percent=60.0))
    assert find(store, batch) == (JobState.PROCESSING, 20.0)
    store.runner.complete(batch[0].id, 1, output={"folder": "x"}, result={"generation_time_seconds": 1.0})
    assert find(store, batch) == (JobState.PROCESSING, 100 / 3)
    complete(store, batch[1])
    complete(store, batch[2])
    assert find(store, batch) == (JobState.COMPLETED, 100.0)


def test_a_batch_is_completed_only_if_every_job_is(store: JobStore, batch: list[Job]) -> None:
    store.writer.request_cancel(batch[0].id)
    assert find(store, batch)[0] is JobState.PENDING
    complete(store, batch[1])
    assert find(store, batch)[0] is JobState.PROCESSING
    complete(store, batch[2])
    assert find(store, batch)[0] is JobState.CANCELLED
    store.writer.retry(batch[0].id)
    assert find(store, batch)[0] is JobState.PROCESSING
    fail(store, batch[0])
    assert find(store, batch)[0] is JobState.FAILED


def test_a_hidden_job_stays_in_its_batch_and_a_deleted_one_does_not(store: JobStore, batch: list[Job]) -> None:
    assert batch[0].batch_id is not None
    complete(store, batch[0])
    store.queue.clear()
    assert [job.id for job in store.batches.find(batch[0].batch_id).jobs] == [job.id for job in batch]
    store.writer.delete(batch[0].id)
    assert store.batches.find(batch[0].batch_id).jobs == batch[1:]
    for job in batch[1:]:
        store.writer.delete(job.id)
    with pytest.raises(BatchNotFound):
        store.batches.find(batch[0].batch_id)


def test_cancelling_a_batch_cancels_what_has_not_ended(store: JobStore, batch: list[Job], clock: Clock) -> None:
    assert batch[0].batch_id is not None
    other = store.writer.submit(make_job())
    complete(store, batch[0])
    running = store.runner.claim(batch[1].id, lease_seconds=10)
    assert running is not None
    clock.now += 5

    cancelled = store.batches.request_cancel(batch[0].batch_id)

    assert [job.state for job in cancelled.jobs] == [JobState.COMPLETED, JobState.PROCESSING, JobState.CANCELLED]
    assert cancelled.state is JobState.PROCESSING
    assert (cancelled.jobs[1].cancel_requested, cancelled.jobs[2].completed_at) == (True, clock.now)
    assert store.reader.claim_state(batch[1].id, running.fencing_token) is ClaimState.LOST
    assert store.reader.get(other.id) == other
    assert store.reader.count() == dict.fromkeys(JobState, 1) | {JobState.FAILED: 0}
    assert store.batches.request_cancel(batch[0].batch_id) == cancelled
    store.runner.mark_cancelled(batch[1].id, running.fencing_token)
    assert find(store, batch)[0] is JobState.CANCELLED
    with pytest.raises(BatchEnded, match="it is cancelled"):
        store.batches.request_cancel(batch[0].batch_id)
    with pytest.raises(JobEnded):
        store.writer.request_cancel(batch[1].id)


def test_a_batch_is_cancelled_while_its_jobs_are_reordered_and_claimed(store: JobStore) -> None:
    batches = [store.writer.submit_batch(make_batch(*range(8))) for _ in range(6)]
    ids = [job.id for batch in batches for job in batch]
    failures: list[BaseException] = []

    def run(*calls: object) -> None:
        try:
            for call in calls:
                assert callable(call)
                call()
        except BaseException as exc:  # noqa: BLE001  # a thread's error would otherwise be lost
            failures.append(exc)

    threads = [
        threading.Thread(target=run, args=[lambda: store.writer.reorder(ids[::-1])] * 6),
        threading.Thread(target=run, args=[lambda: store.writer.reorder(ids)] * 6),
        threading.Thread(target=run, args=[lambda b=b: store.batches.request_cancel(b[0].batch_id) for b in batches]),
        threading.Thread(target=run, args=[lambda b=b: store.runner.claim(b[0].id, lease_seconds=10) for b in batches]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert store.reader.count()[JobState.PENDING] == 0
    assert sum(store.reader.count().values()) == 48
