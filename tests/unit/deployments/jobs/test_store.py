"""The job store, on SQLite and on PostgreSQL."""

import threading
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from deployments.jobs.database import open_engine
from deployments.jobs.job import (
    ClaimState,
    IdempotencyConflict,
    JobEnded,
    JobNotFound,
    JobState,
    LeaseLost,
    Priority,
)
from deployments.jobs.schema import metadata
from deployments.jobs.store import JobStore
from tests.jobs import expire_leases, make_job, make_params
from tests.unit.conftest import Clock
from wan22_bridge.errors import ConfigurationError
from wan22_bridge.types import Progress, Stage

_ERROR = {"type": "generation", "code": "interrupted", "message": "It died."}


def test_a_submitted_job_is_read_back_unchanged(store: JobStore) -> None:
    job = store.writer.submit(make_job(priority=Priority.HIGH, metadata={"who": "me"}))
    assert store.reader.get(job.id) == job
    assert (job.state, job.priority, job.metadata) == (JobState.PENDING, Priority.HIGH, {"who": "me"})
    assert job.params == make_params()


def test_a_second_store_on_the_same_database_sees_the_job(store: JobStore, database_url: str) -> None:
    job = store.writer.submit(make_job())
    other = JobStore(database_url)
    assert other.reader.get(job.id) == job
    other.database.close()


def test_the_migrations_create_the_schema_that_the_code_uses(store: JobStore, database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_an_unknown_job_is_not_found(store: JobStore) -> None:
    for call in (store.reader.get, store.writer.request_cancel, store.writer.delete):
        with pytest.raises(JobNotFound, match="no job 'nope'"):
            call("nope")
    with pytest.raises(JobNotFound):
        store.reader.page(after="nope")


def test_a_repeated_idempotency_key_returns_the_first_job(store: JobStore) -> None:
    first = store.writer.submit(make_job(idempotency_key="k", request_hash="a"))
    assert store.writer.submit(make_job(idempotency_key="k", request_hash="a")).id == first.id
    with pytest.raises(IdempotencyConflict):
        store.writer.submit(make_job(idempotency_key="k", request_hash="b"))
    assert store.reader.count()[JobState.PENDING] == 1


def test_only_one_of_many_claimers_gets_the_job(store: JobStore) -> None:
    job = store.writer.submit(make_job())
    claims = []
    barrier = threading.Barrier(8)

    def claim() -> None:
        barrier.wait()
        claims.append(store.runner.claim(job.id, lease_seconds=10))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [claimed.id for claimed in claims if claimed] == [job.id]


def test_concurrent_submissions_are_all_stored(store: JobStore) -> None:
    def submit() -> None:
        for _ in range(10):
            store.writer.submit(make_job())

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.reader.count()[JobState.PENDING] == 60


def test_a_reader_of_events_never_skips_one_that_commits_late(store: JobStore) -> None:
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while True:
            finished = done.is_set()
            for event in store.events.after(last):
                seen.append(event.sequence)
                last = event.sequence
            if finished:
                return

    def submit() -> None:
        for _ in range(15):
            store.writer.submit(make_job())

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=submit) for _ in range(4)]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert seen == [event.sequence for event in store.events.after(0)]
    assert len(seen) == 60


def test_a_running_job_reports_its_progress_and_ends(store: JobStore) -> None:
    job = store.writer.submit(make_job())
    claimed = store.runner.claim(job.id, lease_seconds=10)
    assert claimed is not None
    assert (claimed.state, claimed.attempt, claimed.fencing_token) == (JobState.PROCESSING, 1, 1)
    store.runner.record_progress(
        job.id, 1, Progress(stage=Stage.GENERATING, current_step=1, total_steps=2, percent=40.0)
    )
    assert store.reader.get(job.id).stage == "generating"
    done = store.runner.complete(job.id, 1, output={"folder": "x"}, result={"success": True})
    assert (done.state, done.progress, done.stage) == (JobState.COMPLETED, 100.0, "completed")
    assert [event.data["stage"] for event in store.events.after(0, job_ids=[job.id])] == [
        "queued",
        "loading_model",
        "generating",
        "completed",
    ]


def test_a_failed_job_keeps_its_error(store: JobStore) -> None:
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    assert store.runner.fail(job.id, 1, _ERROR).error == _ERROR


def test_writes_of_a_lost_claim_are_rejected(store: JobStore, clock: Clock) -> None:
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    expire_leases(store)
    store.runner.reclaim_expired(max_attempts=3)
    second = store.runner.claim(job.id, lease_seconds=10)
    assert second is not None
    assert (second.attempt, second.fencing_token) == (2, 2)
    progress = Progress(stage=Stage.GENERATING)
    for write in (
        lambda: store.runner.renew(job.id, 1, 10),
        lambda: store.runner.record_progress(job.id, 1, progress),
        lambda: store.runner.complete(job.id, 1, output={}, result={}),
        lambda: store.runner.fail(job.id, 1, _ERROR),
        lambda: store.runner.mark_cancelled(job.id, 1),
        lambda: store.runner.release(job.id, 1),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert store.reader.claim_state(job.id, 1) is ClaimState.LOST
    assert store.reader.claim_state(job.id, 2) is ClaimState.HELD
    assert store.reader.get(job.id) == second


def test_a_renewed_lease_does_not_expire(database_url: str, clock: Clock) -> None:
    store = JobStore(database_url, database_clock=clock)
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    clock.now += 9
    store.runner.renew(job.id, 1, 10)
    clock.now += 9
    assert store.runner.reclaim_expired(max_attempts=3) == []
    assert store.reader.get(job.id).state is JobState.PROCESSING
    clock.now += 2
    assert [expired.id for expired in store.runner.reclaim_expired(max_attempts=3)] == [job.id]
    store.database.close()


def test_a_released_job_is_pending_again_and_its_attempt_does_not_count(store: JobStore) -> None:
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    released = store.runner.release(job.id, 1)
    assert (released.state, released.attempt, released.fencing_token) == (JobState.PENDING, 0, 1)


def test_cancelling_a_pending_job_ends_it_at_once(store: JobStore) -> None:
    job = store.writer.submit(make_job())
    assert store.writer.request_cancel(job.id).state is JobState.CANCELLED
    assert store.runner.claim(job.id, lease_seconds=10) is None
    with pytest.raises(JobEnded, match="already cancelled"):
        store.writer.request_cancel(job.id)


def test_cancelling_a_running_job_asks_its_generator_to_stop(store: JobStore, clock: Clock) -> None:
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    assert store.writer.request_cancel(job.id).state is JobState.PROCESSING
    assert store.reader.claim_state(job.id, 1) is ClaimState.LOST
    assert store.runner.mark_cancelled(job.id, 1).state is JobState.CANCELLED


@pytest.mark.parametrize("how", ["released", "expired"])
def test_a_cancelled_running_job_is_not_run_again(store: JobStore, clock: Clock, how: str) -> None:
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    store.writer.request_cancel(job.id)
    if how == "released":
        store.runner.release(job.id, 1)
    else:
        expire_leases(store)
        store.runner.reclaim_expired(max_attempts=3)
    assert store.reader.get(job.id).state is JobState.CANCELLED


def test_a_running_job_that_is_deleted_loses_its_claim(store: JobStore) -> None:
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    store.writer.delete(job.id)
    assert store.reader.claim_state(job.id, 1) is ClaimState.LOST
    with pytest.raises(JobNotFound):
        store.reader.get(job.id)
    assert [event.type for event in store.events.after(0)][-1] == "deleted"


def test_the_highest_priority_comes_first_in_the_queue(store: JobStore) -> None:
    waiting = [store.writer.submit(make_job()).id for _ in range(3)]
    low = store.writer.submit(make_job(priority=Priority.LOW)).id
    high = store.writer.submit(make_job(priority=Priority.HIGH)).id
    assert [job.id for job in store.reader.next_pending(["tiny-t2v"], limit=2)] == [high, waiting[0]]
    assert store.reader.next_pending(["tiny-i2v"], limit=2) == []
    assert store.queue.positions(store.reader.page()) == {high: 1, waiting[0]: 2, waiting[1]: 3, waiting[2]: 4, low: 5}


def test_reordered_jobs_trade_places_and_the_others_keep_theirs(store: JobStore) -> None:
    first, second, third, fourth = (store.writer.submit(make_job()).id for _ in range(4))
    begun = store.writer.submit(make_job()).id
    store.runner.claim(begun, lease_seconds=10)

    store.writer.reorder([fourth, begun, "video_none", "\x00", first, fourth, second])

    assert [job.id for job in store.reader.next_pending(["tiny-t2v"], limit=9)] == [fourth, first, third, second]
    assert store.queue.positions(store.reader.page()) == {fourth: 1, first: 2, third: 3, second: 4}
    assert [job.queue_order == job.number for job in map(store.reader.get, (first, second, third, fourth))] == [
        False,
        False,
        True,
        False,
    ]


def test_run_times_of_completed_jobs_are_returned_newest_first(store: JobStore) -> None:
    for seconds in (3.0, 4.0):
        job = store.writer.submit(make_job())
        store.runner.claim(job.id, lease_seconds=10)
        assert store.reader.count_by_model(JobState.PROCESSING) == {"tiny-t2v": 1}
        store.runner.complete(job.id, 1, output={}, result={"generation_time_seconds": seconds})

    assert [seconds for _, seconds in store.reader.run_times("tiny-t2v")] == [4.0, 3.0]
    assert store.reader.run_times("tiny-i2v") == []
    assert store.reader.count_by_model(JobState.PROCESSING) == {}


def test_pages_of_jobs_follow_each_other_without_a_gap(store: JobStore) -> None:
    ids = [store.writer.submit(make_job()).id for _ in range(5)]
    first = store.reader.page(limit=2)
    second = store.reader.page(limit=9, after=first[-1].id)
    assert [job.id for job in first + second] == ids[::-1]
    assert [job.id for job in store.reader.page(newest_first=False, after=ids[1])] == ids[2:]
    store.writer.request_cancel(ids[0])
    assert [job.id for job in store.reader.page(states=[JobState.CANCELLED])] == [ids[0]]


def test_pruned_events_do_not_reset_the_sequence(store: JobStore, clock: Clock) -> None:
    store.writer.submit(make_job())
    last = store.events.last_sequence()
    clock.now += 100
    assert store.events.prune(older_than_seconds=50) == 1
    store.writer.submit(make_job())
    assert [event.sequence for event in store.events.after(0)] == [last + 1]


def test_open_jobs_that_use_a_lora_are_found_by_its_exact_name(store: JobStore) -> None:
    def submit(*names: str, **changes: Any) -> str:
        params = make_params(loras=[{"name": name} for name in names], **changes)
        return store.writer.submit(make_job(params=params)).id

    first, both, running, ended = submit("a_b"), submit("x", "a_b"), submit("a_b"), submit("a_b")
    submit("axb"), submit("a_b c"), submit(prompt='"a_b"'), submit("ü%")
    store.runner.claim(running, lease_seconds=10)
    store.writer.request_cancel(ended)

    assert [job.id for job in store.reader.using_lora("a_b")] == [first, both, running]
    assert len(store.reader.using_lora("ü%")) == 1
    assert store.reader.using_lora("a") == []


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite://"])
def test_an_unsupported_database_url_is_rejected(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database_url"):
        JobStore(url)


@pytest.mark.parametrize("how", ["released", "lease lost"])
def test_a_claim_is_given_back_until_another_claim_replaces_it(how: str, store: JobStore, clock: Clock) -> None:
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=10)
    if how == "released":
        store.runner.release(job.id, 1)
    else:
        expire_leases(store)
        store.runner.reclaim_expired(max_attempts=3)

    assert store.reader.claim_state(job.id, 1) is ClaimState.GIVEN_BACK
    store.runner.claim(job.id, lease_seconds=10)
    assert store.reader.claim_state(job.id, 1) is ClaimState.LOST
