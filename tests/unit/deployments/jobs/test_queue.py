"""The queue's listings, counts and positions, its pause and its clearing, on SQLite and on PostgreSQL."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import select

from deployments.jobs.counting import BLOCK_SIZE
from deployments.jobs.events import QUEUE_CHANGED
from deployments.jobs.job import Job, JobNotFound, JobNotRetryable, JobRunning, JobState, Priority
from deployments.jobs.schema import job_counts, jobs
from deployments.jobs.store import JobStore
from tests.jobs import make_job, make_params
from tests.unit.conftest import Clock

_ERROR = {"type": "generation", "code": "interrupted", "message": "It died."}


def _submit(store: JobStore, count: int) -> list[str]:
    return [store.writer.submit(make_job()).id for _ in range(count)]


def _run(store: JobStore, job_id: str) -> Job:
    job = store.runner.claim(job_id, lease_seconds=10)
    assert job is not None
    return job


def _end(store: JobStore, job_id: str, state: JobState, *, video_bytes: int = 1000) -> None:
    token = _run(store, job_id).fencing_token
    if state is JobState.COMPLETED:
        output = {"folder": "x", "file_size_bytes": video_bytes}
        store.runner.complete(job_id, token, output=output, result={"generation_time_seconds": 1.0})
    elif state is JobState.FAILED:
        store.runner.fail(job_id, token, _ERROR)
    else:
        store.runner.mark_cancelled(job_id, token)


def _check_counts(store: JobStore) -> None:
    """Compares the maintained counts and the positions with what the rows of all jobs say."""
    with store.database.reading() as connection:
        rows = connection.execute(select(jobs).order_by(jobs.c.priority.desc(), jobs.c.rank)).all()
        empty = connection.execute(select(job_counts).where(job_counts.c.jobs == 0)).all()
    all_jobs = store.reader.page(limit=1000)
    pending = [row.id for row in rows if row.state == JobState.PENDING]
    listed = Counter(row.state for row in rows if not row.hidden)
    assert store.reader.count() == dict.fromkeys(JobState, 0) | Counter(row.state for row in rows)
    assert store.queue.page().counts == dict.fromkeys(JobState, 0) | listed
    for state in JobState:
        assert store.reader.count_by_model(state) == Counter(row.model for row in rows if row.state == state)
    assert store.reader.output_bytes() == sum((row.output or {}).get("file_size_bytes", 0) for row in rows)
    for owner in {row.owner for row in rows}:
        own = [row for row in rows if row.owner == owner]
        states = Counter(row.state for row in own if not row.hidden)
        assert store.queue.page(owner=owner).counts == dict.fromkeys(JobState, 0) | states
        assert store.reader.count(owner=owner) == dict.fromkeys(JobState, 0) | Counter(row.state for row in own)
        size_bytes = sum((row.output or {}).get("file_size_bytes", 0) for row in own)
        assert store.reader.output_bytes(owner=owner) == size_bytes
    assert store.queue.positions(all_jobs) == {job_id: position for position, job_id in enumerate(pending, 1)}
    assert [job.id for job in store.reader.next_pending(["tiny-t2v", "tiny-i2v"], limit=1000)] == pending
    assert empty == []


def test_the_counts_stay_right_through_every_change(store: JobStore) -> None:
    chance = random.Random(5)

    def submit() -> None:
        params = make_params(model=chance.choice(["tiny-t2v", "tiny-i2v"]))
        owner = chance.choice(["", "alice", "bob"])
        store.writer.submit(make_job(params=params, priority=chance.choice(list(Priority)), owner=owner))

    def changes_of(job: Job, others: list[str]) -> list[Callable[[], object]]:
        """Returns the changes that are possible in the job's state. Those that occur twice are more likely."""
        runner, token = store.runner, job.fencing_token
        output, result = {"file_size_bytes": chance.randrange(9999)}, {"generation_time_seconds": 1.0}
        delete = partial(store.writer.delete, job.id)
        cancel = partial(store.writer.request_cancel, job.id)
        if job.state is JobState.PENDING:
            claim = partial(runner.claim, job.id, lease_seconds=10)
            reorder = partial(store.writer.reorder, chance.sample(others, min(4, len(others))))
            return [claim, claim, reorder, reorder, cancel, delete]
        if job.state is JobState.PROCESSING:
            complete = partial(runner.complete, job.id, token, output=output, result=result)
            release = partial(runner.release, job.id, token)
            return [complete, complete, partial(runner.fail, job.id, token, _ERROR), release, cancel, delete]
        if job.state is JobState.COMPLETED:
            return [delete, store.queue.clear, partial(store.queue.clear, owner="alice"), submit, submit]
        return [delete, store.queue.clear, partial(store.queue.clear, owner="bob"), partial(store.writer.retry, job.id)]

    seen: set[JobState] = set()
    for _ in range(200):
        alive = store.reader.page(limit=1000)
        seen |= {job.state for job in alive}
        if len(alive) < 12 or chance.random() < 0.2:
            submit()
        else:
            chance.choice(changes_of(chance.choice(alive), [job.id for job in alive]))()
    assert seen == set(JobState)
    _check_counts(store)


def test_the_counts_are_right_after_concurrent_changes(store: JobStore) -> None:
    ids = _submit(store, 12)

    def work(mine: list[str]) -> None:
        for job_id in mine:
            _end(store, job_id, JobState.COMPLETED)
            store.queue.clear()
            store.writer.submit(make_job())

    threads = [threading.Thread(target=work, args=(ids[index::4],)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.reader.count()[JobState.COMPLETED] == 12
    assert store.queue.page().counts[JobState.PENDING] == 12
    _check_counts(store)


def test_positions_continue_over_the_blocks_in_which_places_are_counted(store: JobStore) -> None:
    ids = _submit(store, BLOCK_SIZE + 4)
    high = store.writer.submit(make_job(priority=Priority.HIGH)).id
    store.writer.request_cancel(ids[1])
    store.writer.reorder([ids[-1], ids[0]])
    _check_counts(store)
    assert store.queue.find(high)[1] == 1
    assert store.queue.find(ids[-1])[1] == 2
    assert store.queue.find(ids[0])[1] == BLOCK_SIZE + 4
    assert store.queue.find(ids[1])[1] is None


def test_a_page_has_the_positions_of_its_pending_jobs_only(store: JobStore) -> None:
    first, second, third = _submit(store, 3)
    _run(store, first)
    page = store.queue.page(limit=2)
    assert [job.id for job in page.jobs] == [third, second]
    assert page.positions == {second: 1, third: 2}
    assert page.current is not None
    assert page.current.id == first
    assert [job.id for job in store.queue.page(states=[JobState.PROCESSING]).jobs] == [first]


def test_the_active_jobs_are_the_running_and_then_the_next_ones(store: JobStore) -> None:
    ended, waiting, running = _submit(store, 3)
    high = store.writer.submit(make_job(priority=Priority.HIGH)).id
    _end(store, ended, JobState.COMPLETED)
    _run(store, running)
    assert [job.id for job in store.queue.active().jobs] == [running, high, waiting]
    assert [job.id for job in store.queue.active(limit=2).jobs] == [running, high]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_listing_continues_after_a_deleted_job(store: JobStore, newest_first: bool) -> None:
    ids = _submit(store, 5)
    order = ids[::-1] if newest_first else ids
    store.writer.delete(order[1])
    assert [job.id for job in store.reader.page(after=order[1], newest_first=newest_first)] == order[2:]
    store.writer.delete(order[2])
    assert [job.id for job in store.reader.page(after=order[1], newest_first=newest_first)] == order[3:]
    assert [job.id for job in store.queue.page(after=ids[3]).jobs] == [x for x in ids[2::-1] if x not in order[1:3]]


def test_a_listing_from_the_oldest_never_misses_a_job_that_follows_a_deleted_one(store: JobStore) -> None:
    first, last = _submit(store, 2)
    store.writer.delete(last)
    following = store.writer.submit(make_job())
    assert [job.id for job in store.reader.page(after=last, newest_first=False)] == [following.id]
    assert [job.id for job in store.reader.page(after=last)] == [first]


def test_the_place_of_a_deleted_job_is_forgotten_in_time(store: JobStore, clock: Clock) -> None:
    (job_id,) = _submit(store, 1)
    store.writer.delete(job_id)
    clock.now += 100
    store.writer.forget_deleted(older_than_seconds=200)
    assert store.reader.page(after=job_id) == []
    store.writer.forget_deleted(older_than_seconds=50)
    with pytest.raises(JobNotFound) as caught:
        store.reader.page(after=job_id)
    assert caught.value.param == "after"


def test_cleared_jobs_are_listed_no_more_and_stay_readable(store: JobStore) -> None:
    states = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
    ended, (pending, running) = _submit(store, 3), _submit(store, 2)
    for job_id, state in zip(ended, states, strict=True):
        _end(store, job_id, state)
    _run(store, running)

    assert store.queue.clear() == 3
    assert store.queue.clear() == 0

    page = store.queue.page()
    assert [job.id for job in page.jobs] == [running, pending]
    assert page.counts == dict.fromkeys(states, 0) | {JobState.PENDING: 1, JobState.PROCESSING: 1}
    assert store.queue.page(states=[JobState.COMPLETED]).jobs == []
    assert [store.reader.get(job_id).state for job_id in ended] == list(states)
    assert [job.id for job in store.reader.page(states=[JobState.COMPLETED])] == ended[:1]
    assert (store.reader.count()[JobState.COMPLETED], store.reader.output_bytes()) == (1, 1000)
    cleared = [event.data for event in store.events.after(0) if event.type == QUEUE_CHANGED]
    assert cleared == [{"cleared": 3, "owner": ""}]


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_retried_job_is_pending_again_in_its_place(store: JobStore, state: JobState) -> None:
    first, second = _submit(store, 2)
    before = store.reader.get(first)
    _end(store, first, state)
    store.queue.clear()

    retried = store.writer.retry(first)

    assert (retried.id, retried.state, retried.params) == (first, JobState.PENDING, before.params)
    assert (retried.attempt, retried.error, retried.started_at, retried.completed_at) == (0, None, None, None)
    assert not retried.cancel_requested
    assert store.queue.page().positions == {first: 1, second: 2}
    claimed = _run(store, first)
    assert (claimed.attempt, claimed.fencing_token) == (1, 2), "files of the first claim keep their own folder"


def test_only_a_failed_or_cancelled_job_is_retried(store: JobStore) -> None:
    pending, running, completed = _submit(store, 3)
    _run(store, running)
    _end(store, completed, JobState.COMPLETED)
    for job_id in (pending, running, completed):
        before = store.reader.get(job_id)
        with pytest.raises(JobNotRetryable, match=before.state):
            store.writer.retry(job_id)
        assert store.reader.get(job_id) == before
    with pytest.raises(JobNotFound):
        store.writer.retry("video_none")


def test_a_running_job_is_deleted_only_if_that_is_wanted(store: JobStore) -> None:
    (job_id,) = _submit(store, 1)
    _run(store, job_id)
    with pytest.raises(JobRunning, match="running"):
        store.writer.delete(job_id, even_if_running=False)
    assert store.reader.get(job_id).state is JobState.PROCESSING
    store.writer.delete(job_id)
    with pytest.raises(JobNotFound):
        store.reader.get(job_id)


def test_a_pause_is_durable_and_reported(store: JobStore, database_url: str) -> None:
    assert not store.queue.is_paused()
    store.queue.set_paused(True)
    later = JobStore(database_url)
    assert later.queue.is_paused()
    assert later.queue.page().paused
    later.queue.set_paused(False)
    later.database.close()
    assert not store.queue.active().paused
    assert [(event.job_id, event.type, event.data) for event in store.events.after(0)] == [
        ("", QUEUE_CHANGED, {"paused": True}),
        ("", QUEUE_CHANGED, {"paused": False}),
    ]
