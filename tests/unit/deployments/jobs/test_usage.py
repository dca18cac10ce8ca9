"""The use of the service by each client, and the limits that the database enforces, on SQLite and PostgreSQL."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from deployments.jobs.attempts import Interruption
from deployments.jobs.job import Job, JobNotFound, JobState
from deployments.jobs.limits import UNLIMITED, Account, ClientLimits, LimitExceeded, QueueFull
from deployments.jobs.store import JobStore
from deployments.jobs.usage import DAY_SECONDS, DayOfUse
from tests.jobs import expire_leases, make_job, make_params
from tests.unit.conftest import Clock
from wan22_bridge.types import Progress, Stage

ALICE, BOB = "alice", "bob"
_LEASE = 15.0
_DAY = 20_000
_PROGRESS = Progress(stage=Stage.GENERATING, current_step=1, total_steps=2)


@pytest.fixture
def clock() -> Clock:
    """A clock of the database and of the process, at noon."""
    clock = Clock()
    clock.now = (_DAY + 0.5) * DAY_SECONDS
    return clock


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[JobStore]:
    opened = JobStore(database_url, clock=clock, database_clock=clock)
    yield opened
    opened.database.close()


def _run(store: JobStore, clock: Clock, *, seconds: float, owner: str = ALICE) -> Job:
    """Claims a new job, waits ten seconds for a generator, and lets it work for some time."""
    job = store.runner.claim(store.writer.submit(make_job(owner=owner)).id, lease_seconds=_LEASE)
    assert job is not None
    clock.now += 10
    store.runner.record_progress(job.id, job.fencing_token, _PROGRESS)
    clock.now += seconds
    return job


def _gpu_seconds(store: JobStore, client: str = ALICE, *, days: int = 1) -> list[float]:
    return [day.gpu_seconds for day in store.usage.read(days=days, client=client)]


def _limits(**limits: float) -> ClientLimits:
    return UNLIMITED.model_copy(update=limits)


def _account(client: str = ALICE, *, overall: int | None = None, **limits: float) -> Account:
    return Account(client=client, limits=_limits(**limits), pending_jobs_overall=overall)


_ENDS: dict[str, Callable[[JobStore, Job], object]] = {
    "completed": lambda store, job: store.runner.complete(job.id, job.fencing_token, output={}, result={}),
    "failed": lambda store, job: store.runner.fail(job.id, job.fencing_token, {"code": "x", "message": "x"}),
    "cancelled": lambda store, job: store.runner.mark_cancelled(job.id, job.fencing_token),
    "preempted": lambda store, job: store.runner.release(job.id, job.fencing_token),
    "mocked": lambda store, job: store.runner.mock(job.id, job.fencing_token, "x"),
    "deleted": lambda store, job: store.writer.delete(job.id),
    "interrupted": lambda store, job: store.runner.give_back(
        job.id, job.fencing_token, Interruption.PROCESS_DIED, max_attempts=3
    ),
    "interrupted too often": lambda store, job: store.runner.give_back(
        job.id, job.fencing_token, Interruption.PROCESS_DIED, max_attempts=1
    ),
}


@pytest.mark.parametrize("end", _ENDS.values(), ids=_ENDS)
def test_each_end_of_an_attempt_charges_the_time_of_the_generator(
    end: Callable[[JobStore, Job], object], store: JobStore, clock: Clock
) -> None:
    job = _run(store, clock, seconds=7)
    assert _gpu_seconds(store) == []
    end(store, job)
    assert _gpu_seconds(store) == [pytest.approx(7)]
    assert _gpu_seconds(store, BOB) == []
    clock.now += 100
    with contextlib.suppress(JobNotFound):
        store.writer.delete(job.id)
    assert _gpu_seconds(store) == [pytest.approx(7)]


def test_an_attempt_that_ended_with_an_error_is_charged_once(store: JobStore, clock: Clock) -> None:
    job = _run(store, clock, seconds=7)
    error = store.runner.give_back(job.id, job.fencing_token, Interruption.PROCESS_DIED, max_attempts=1)
    assert error is not None
    clock.now += 100
    store.runner.fail(job.id, job.fencing_token, error)
    assert _gpu_seconds(store) == [pytest.approx(7)]


def test_the_renewal_of_a_lease_charges_a_running_job(store: JobStore, clock: Clock, database_url: str) -> None:
    job = _run(store, clock, seconds=3)
    store.runner.renew(job.id, job.fencing_token, _LEASE)
    assert _gpu_seconds(store) == [pytest.approx(3)]
    reopened = JobStore(database_url, clock=clock, database_clock=clock)
    clock.now += 4
    reopened.runner.complete(job.id, job.fencing_token, output={}, result={})
    assert _gpu_seconds(reopened) == [pytest.approx(7)]
    reopened.database.close()


def test_time_without_a_generator_is_not_charged(store: JobStore, clock: Clock) -> None:
    job = store.runner.claim(store.writer.submit(make_job(owner=ALICE)).id, lease_seconds=_LEASE)
    assert job is not None
    clock.now += 600
    store.runner.renew(job.id, job.fencing_token, _LEASE)
    store.runner.release(job.id, job.fencing_token)
    assert _gpu_seconds(store) == []


def test_time_after_the_death_of_a_dispatcher_is_not_charged(store: JobStore, clock: Clock) -> None:
    job = _run(store, clock, seconds=3)
    store.runner.renew(job.id, job.fencing_token, _LEASE)
    clock.now += 5000
    expire_leases(store)
    store.runner.reclaim_expired(max_attempts=3)
    second = store.runner.claim(job.id, lease_seconds=_LEASE)
    assert second is not None
    store.runner.record_progress(second.id, second.fencing_token, _PROGRESS)
    clock.now += 2
    store.runner.complete(second.id, second.fencing_token, output={}, result={})
    assert _gpu_seconds(store) == [pytest.approx(5)]


def test_a_mock_job_uses_no_generator(store: JobStore, clock: Clock) -> None:
    params = make_params(is_mock=True)
    job = store.runner.claim(store.writer.submit(make_job(params=params, owner=ALICE)).id, lease_seconds=_LEASE)
    assert job is not None
    store.runner.record_progress(job.id, job.fencing_token, _PROGRESS)
    clock.now += 5
    store.runner.complete(job.id, job.fencing_token, output={}, result={})
    assert _gpu_seconds(store) == []


def test_a_day_begins_at_midnight_in_utc(store: JobStore, clock: Clock) -> None:
    job = _run(store, clock, seconds=30)
    store.runner.renew(job.id, job.fencing_token, _LEASE)
    clock.now = (_DAY + 1) * DAY_SECONDS - 1
    store.runner.renew(job.id, job.fencing_token, _LEASE)
    before = _gpu_seconds(store)
    clock.now += 5
    store.runner.complete(job.id, job.fencing_token, output={}, result={})
    assert _gpu_seconds(store, days=2) == [pytest.approx(5), *before]
    store.usage.prune(older_than_seconds=DAY_SECONDS)
    assert [day.day for day in store.usage.read(days=9)] == [_DAY + 1, _DAY]
    store.usage.prune(older_than_seconds=0)
    assert [day.day for day in store.usage.read(days=9)] == [_DAY + 1]


def test_used_gpu_seconds_reject_jobs_until_the_next_day(store: JobStore, clock: Clock) -> None:
    account = _account(gpu_seconds_per_day=7)
    job = _run(store, clock, seconds=7)
    store.writer.submit(make_job(owner=ALICE), account)
    store.runner.complete(job.id, job.fencing_token, output={}, result={})
    with pytest.raises(LimitExceeded, match=r"limit gpu_seconds_per_day is 7, and 7 s are used.* at 2024-") as rejected:
        store.writer.submit(make_job(owner=ALICE), account)
    left = (_DAY + 1) * DAY_SECONDS - clock.now
    assert rejected.value.param == "gpu_seconds_per_day"
    assert rejected.value.retry_after_seconds == pytest.approx(left, abs=2)
    store.writer.submit(make_job(owner=BOB), _account(BOB, gpu_seconds_per_day=7))
    clock.now += left
    store.writer.submit(make_job(owner=ALICE), account)


def test_a_client_has_a_limited_number_of_pending_jobs(store: JobStore) -> None:
    account = _account(pending_jobs=2)
    batch = [make_job(owner=ALICE)] * 2
    with pytest.raises(LimitExceeded, match=r"^The limit pending_jobs is 2: 0 of your jobs are pending.* adds 3\."):
        store.writer.submit_batch([*batch, *batch[:1]], account)
    assert store.reader.count()[JobState.PENDING] == 0
    first, second = store.writer.submit_batch(batch, account)
    with pytest.raises(LimitExceeded, match=r"2 of your jobs are pending, and the request adds 1\.") as rejected:
        store.writer.submit(make_job(owner=ALICE), account)
    assert (rejected.value.param, rejected.value.retry_after_seconds) == ("pending_jobs", 60)
    store.writer.submit(make_job(owner=BOB), _account(BOB, pending_jobs=2))
    store.writer.request_cancel(first.id)
    third = store.writer.submit(make_job(owner=ALICE), account)
    with pytest.raises(LimitExceeded):
        store.writer.retry(first.id, account=account)
    assert store.reader.get(first.id).state is JobState.CANCELLED
    store.runner.claim(second.id, lease_seconds=_LEASE)
    store.writer.retry(first.id, account=account)
    assert {store.reader.get(job.id).state for job in (first, third)} == {JobState.PENDING}
    assert store.usage.count_pending(ALICE) == 2


def test_jobs_without_an_owner_are_counted_for_their_addresses(store: JobStore) -> None:
    accounts = [_account(f"address:10.0.0.{number}", pending_jobs=1) for number in (1, 2)]
    for account in accounts:
        store.writer.submit(make_job(client=account.client), account)
    with pytest.raises(LimitExceeded):
        store.writer.submit(make_job(client=accounts[0].client), accounts[0])


def test_a_repeated_request_is_answered_at_the_limit(store: JobStore) -> None:
    account = _account(pending_jobs=1)
    new = make_job(owner=ALICE, idempotency_key="key", request_hash="same")
    first = store.writer.submit(new, account)
    assert store.writer.submit(new, account).id == first.id
    with pytest.raises(LimitExceeded):
        store.writer.submit(replace(new, idempotency_key="other"), account)


def test_the_queue_has_a_limited_number_of_jobs(store: JobStore) -> None:
    store.writer.submit(make_job(owner=ALICE), _account(overall=2))
    store.writer.submit(make_job(owner=BOB), _account(BOB, overall=2))
    with pytest.raises(QueueFull, match=r"^The queue is full: the limit pending_jobs_overall is 2, 2 jobs") as rejected:
        store.writer.submit(make_job(owner=BOB), _account(BOB, overall=2))
    assert (rejected.value.code, rejected.value.retry_after_seconds) == ("queue_full", 60)


def test_uploads_of_a_day_are_limited(store: JobStore, clock: Clock) -> None:
    account = _account(uploads_per_day=3, upload_mb_per_day=2)
    store.usage.take_uploads(account, [])
    store.usage.take_uploads(account, [500_000, 500_000])
    with pytest.raises(LimitExceeded, match=r"^The limit uploads_per_day is 3, and 2 files are used today\."):
        store.usage.take_uploads(account, [1, 1])
    with pytest.raises(LimitExceeded, match=r"^The limit upload_mb_per_day is 2, and 1\.0 MB are used today\."):
        store.usage.take_uploads(account, [1_000_001])
    store.usage.take_uploads(account, [1_000_000])
    store.usage.take_uploads(_account(BOB, uploads_per_day=1), [9])
    used = DayOfUse(day=_DAY, client=ALICE, uploads=3, upload_bytes=2_000_000, gpu_seconds=0)
    assert store.usage.read(client=ALICE) == [used]
    clock.now += DAY_SECONDS
    store.usage.take_uploads(account, [1])
    assert [day.uploads for day in store.usage.read(days=2, client=ALICE)] == [1, 3]


def test_inputs_of_jobs_beyond_a_limit_are_not_counted(store: JobStore) -> None:
    account = _account(pending_jobs=1)
    with pytest.raises(LimitExceeded, match="0 of your jobs are pending, and the request adds 2"):
        store.usage.take_uploads(account, [5], new_jobs=2)
    store.usage.take_uploads(account, [5], new_jobs=1)
    assert [day.uploads for day in store.usage.read()] == [1]


def test_replicas_that_submit_at_the_same_time_share_the_limits(database_url: str) -> None:
    stores = [JobStore(database_url) for _ in range(6)]
    account = _account(pending_jobs=4, uploads_per_day=5)
    together = threading.Barrier(len(stores))
    results: list[str] = []

    def submit(store: JobStore) -> None:
        together.wait()
        for _ in range(3):
            for name, call in (
                ("job", lambda: store.writer.submit(make_job(owner=ALICE), account)),
                ("upload", lambda: store.usage.take_uploads(account, [1])),
            ):
                try:
                    call()
                    results.append(name)
                except LimitExceeded:
                    results.append(f"no {name}")

    threads = [threading.Thread(target=submit, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results.count("job"), results.count("upload"), len(results)) == (4, 5, 36)
    for store in stores:
        store.database.close()


def test_charges_of_one_client_and_submissions_do_not_wait_for_each_other_in_a_circle(database_url: str) -> None:
    stores = [JobStore(database_url) for _ in range(4)]
    account, problems = _account(pending_jobs=1000, uploads_per_day=1000), list[BaseException]()

    def work(store: JobStore) -> None:
        try:
            for _ in range(5):
                job = store.runner.claim(store.writer.submit(make_job(owner=ALICE), account).id, lease_seconds=60)
                assert job is not None
                store.runner.record_progress(job.id, job.fencing_token, _PROGRESS)
                store.usage.take_uploads(account, [1])
                store.runner.renew(job.id, job.fencing_token, 60)
                store.runner.reclaim_expired(max_attempts=3)
                store.runner.complete(job.id, job.fencing_token, output={}, result={})
        except BaseException as exc:  # noqa: BLE001  # reported by the test
            problems.append(exc)

    threads = [threading.Thread(target=work, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert [(day.client, day.uploads) for day in stores[0].usage.read()] == [(ALICE, 20)]
    for store in stores:
        store.database.close()
