"""The outbox of webhooks, on SQLite and on PostgreSQL."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest

from deployments.jobs.attempts import INTERRUPTIONS_PER_ATTEMPT
from deployments.jobs.deliveries import LEASE_SECONDS, Delivery, DeliveryNotFound, DeliveryState
from deployments.jobs.events import describe
from deployments.jobs.job import Job
from deployments.jobs.outbox import JobEnds
from deployments.jobs.store import JobStore
from tests.jobs import expire_leases, make_job
from tests.unit.conftest import Clock

_SERVICE_URLS = ("http://10.0.0.1/all", "http://10.0.0.2/all")
_OWN_URL = "https://example.com/hook?token=x"
_ERROR = {"type": "generation", "code": "broken", "message": "It broke."}
_DAY = 24 * 3600.0


@pytest.fixture
def store(database_url: str, clock: Clock) -> Iterator[JobStore]:
    """A store whose jobs' ends are reported to two receivers."""
    opened = JobStore(
        database_url, clock=clock, database_clock=clock, job_ends=JobEnds(describe=describe, urls=_SERVICE_URLS)
    )
    yield opened
    opened.database.close()


@pytest.fixture
def plain(database_url: str, clock: Clock) -> Iterator[JobStore]:
    """A store whose jobs' ends are reported only to receivers of their own."""
    opened = JobStore(database_url, clock=clock, database_clock=clock, job_ends=JobEnds(describe=describe))
    yield opened
    opened.database.close()


def _run(store: JobStore, **changes: object) -> Job:
    job = store.runner.claim(store.writer.submit(make_job(**changes)).id, lease_seconds=10)
    assert job is not None
    return job


def _cancelled(store: JobStore, url: str = _OWN_URL) -> Delivery:
    """Ends a job and returns the webhook for its own receiver."""
    store.writer.request_cancel(store.writer.submit(make_job(webhook_url=url)).id)
    return store.deliveries.page(limit=1)[0]


def _claim(store: JobStore, limit: int = 100) -> list[Delivery]:
    return _claim_beside(store, {}, limit=limit)


def _claim_beside(
    store: JobStore, busy: Mapping[str, int], *, trusted: bool = False, limit: int = 100
) -> list[Delivery]:
    return store.deliveries.claim(trusted=trusted, limit=limit, busy=busy, limit_per_receiver=2)


def test_each_end_of_a_job_is_reported_to_each_receiver(store: JobStore, clock: Clock) -> None:
    completed, failed, cancelled = (_run(store, webhook_url=_OWN_URL) for _ in range(3))
    clock.now += 1
    store.runner.complete(completed.id, 1, output={}, result={})
    store.runner.fail(failed.id, 1, _ERROR)
    store.writer.request_cancel(cancelled.id)
    assert len(store.deliveries.page()) == 6, "a request to cancel is no end"
    store.runner.mark_cancelled(cancelled.id, 1)
    found = store.deliveries.page()
    assert [(item.job_id, item.type, item.url, item.trusted) for item in reversed(found)] == [
        (job.id, kind, url, url != _OWN_URL)
        for job, kind in ((completed, "video.completed"), (failed, "video.failed"), (cancelled, "video.cancelled"))
        for url in (*_SERVICE_URLS, _OWN_URL)
    ]
    assert len({item.id for item in found}) == 9
    assert all(item.id.startswith("msg_") and item.created_at == clock.now for item in found)
    assert json.loads(found[0].payload) == {
        "type": "video.cancelled",
        "timestamp": "1970-01-12T13:46:41Z",
        "data": describe(store.reader.get(cancelled.id)),
    }


def test_a_payload_stays_as_it_was_at_the_jobs_end(plain: JobStore) -> None:
    first = _cancelled(plain)
    plain.writer.retry(first.job_id)
    assert len(plain.deliveries.page()) == 1
    plain.writer.request_cancel(first.job_id)
    second, same = plain.deliveries.page()
    assert same == first
    assert second.id != first.id
    plain.writer.delete(first.job_id)
    assert plain.deliveries.page() == [second, first], "a deletion is no end, and keeps what happened before it"


@pytest.mark.parametrize("how", ["expired", "released", "download", "deleted"])
def test_every_way_to_end_a_job_is_reported(plain: JobStore, clock: Clock, how: str) -> None:
    job = _run(plain, webhook_url=_OWN_URL) if how != "download" else None
    if how == "expired" and job is not None:
        for _ in range(INTERRUPTIONS_PER_ATTEMPT):
            expire_leases(plain)
            plain.runner.reclaim_expired(max_attempts=1)
            plain.runner.claim(job.id, lease_seconds=10)
    elif how == "released" and job is not None:
        plain.writer.request_cancel(job.id)
        plain.runner.release(job.id, 1)
    elif how == "download":
        plain.writer.submit(make_job(webhook_url=_OWN_URL))
        plain.downloads.fail("tiny-t2v", _ERROR)
    elif job is not None:
        plain.writer.delete(job.id)
    expected = {"released": ["video.cancelled"], "deleted": []}.get(how, ["video.failed"])
    assert [item.type for item in plain.deliveries.page()] == expected


def test_a_jobs_end_and_its_webhooks_are_stored_together_or_not_at_all(database_url: str) -> None:
    def break_down(job: Job) -> dict[str, object]:
        raise ValueError(job.id)

    store = JobStore(database_url, job_ends=JobEnds(describe=break_down, urls=_SERVICE_URLS))
    job = store.writer.submit(make_job())
    with suppress(ValueError):
        store.writer.request_cancel(job.id)
    assert store.reader.get(job.id) == job
    assert store.deliveries.page() == []
    store.database.close()


def test_a_receiver_that_a_job_and_the_service_share_gets_one_webhook(store: JobStore) -> None:
    store.writer.request_cancel(store.writer.submit(make_job(webhook_url=_SERVICE_URLS[0])).id)
    assert [item.url for item in store.deliveries.page()] == [*reversed(_SERVICE_URLS)]


def test_no_two_deliverers_claim_the_same_webhook(plain: JobStore) -> None:
    for number in range(20):
        _cancelled(plain, f"https://{number}.example/")
    claimed: list[Delivery] = []
    barrier = threading.Barrier(4)

    def claim() -> None:
        barrier.wait()
        claimed.extend(_claim(plain))

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed += _claim(plain)  # those that PostgreSQL skipped because another claim had locked them
    assert len({item.id for item in claimed}) == len(claimed) == 20


def test_a_busy_receiver_leaves_room_for_the_others(plain: JobStore) -> None:
    for _ in range(5):
        _cancelled(plain, "https://slow.example:444/a")
    fast = _cancelled(plain, "https://FAST.example/b")
    assert [item.receiver for item in _claim(plain)] == ["slow.example:444"] * 2 + ["fast.example"]
    busy = {"slow.example:444": 2, "fast.example": 1}
    assert _claim_beside(plain, busy) == []
    other = _cancelled(plain, "https://fast.example/c")
    assert [item.id for item in _claim_beside(plain, busy)] == [other.id]
    assert fast.state is DeliveryState.PENDING
    assert _claim(plain, limit=0) == []


def test_webhooks_to_the_operators_receivers_are_claimed_apart_from_those_of_requests(store: JobStore) -> None:
    own = _cancelled(store)
    assert [item.url for item in _claim_beside(store, {}, trusted=True)] == [*_SERVICE_URLS]
    assert _claim_beside(store, {}, trusted=True) == []
    assert [item.id for item in _claim_beside(store, {}, trusted=False)] == [own.id]
    assert _claim_beside(store, {}, trusted=False) == []


def test_a_webhook_whose_deliverer_died_is_claimed_again_after_its_lease(plain: JobStore, clock: Clock) -> None:
    _cancelled(plain)
    [first] = _claim(plain)
    assert (first.attempts, first.next_attempt_at) == (1, clock.now + LEASE_SECONDS)
    clock.now += LEASE_SECONDS - 1
    assert _claim(plain) == []
    clock.now += 1
    [second] = _claim(plain)
    assert (second.id, second.attempts, second.payload) == (first.id, 2, first.payload)
    plain.deliveries.record_failure(first, status=500, error="late", delay_seconds=None)
    assert plain.deliveries.get(first.id) == second, "the result of an attempt that lost its lease does not count"
    plain.deliveries.record_success(second, 204)
    done = plain.deliveries.get(first.id)
    assert (done.state, done.last_status, done.delivered_at) == (DeliveryState.DELIVERED, 204, clock.now)
    clock.now += 100
    assert _claim(plain) == []


def test_a_failed_attempt_is_repeated_when_it_is_due(plain: JobStore, clock: Clock) -> None:
    _cancelled(plain)
    [claimed] = _claim(plain)
    plain.deliveries.record_failure(claimed, status=503, error="It is down.", delay_seconds=300)
    waiting = plain.deliveries.get(claimed.id)
    assert (waiting.state, waiting.last_status, waiting.last_error) == (DeliveryState.PENDING, 503, "It is down.")
    clock.now += 299
    assert _claim(plain) == []
    clock.now += 1
    [again] = _claim(plain)
    plain.deliveries.record_failure(again, status=None, error="It is gone.", delay_seconds=None)
    failed = plain.deliveries.get(claimed.id)
    assert (failed.state, failed.attempts, failed.next_attempt_at) == (DeliveryState.FAILED, 2, None)


def test_a_replayed_webhook_is_due_at_once_with_its_id(plain: JobStore, clock: Clock) -> None:
    created = _cancelled(plain)
    assert plain.deliveries.replay(created.id) == created, "it is due already"
    [claimed] = _claim(plain)
    assert plain.deliveries.replay(created.id) == claimed, "an attempt in progress is not repeated"
    plain.deliveries.record_failure(claimed, status=500, error="no", delay_seconds=3600)
    assert plain.deliveries.replay(created.id).next_attempt_at == clock.now
    [claimed] = _claim(plain)
    plain.deliveries.record_success(claimed, 200)
    clock.now += 50
    replayed = plain.deliveries.replay(created.id)
    assert (replayed.state, replayed.attempts, replayed.delivered_at) == (DeliveryState.PENDING, 0, None)
    [claimed] = _claim(plain)
    assert (claimed.id, claimed.payload) == (created.id, created.payload)


def test_pages_of_webhooks_are_filtered_and_follow_each_other(plain: JobStore) -> None:
    ids = [_cancelled(plain, f"https://{number}.example/").id for number in range(4)]
    claimed = _claim(plain)
    plain.deliveries.record_success(claimed[0], 200)
    first = plain.deliveries.page(limit=2)
    rest = plain.deliveries.page(after=first[-1].id)
    assert [item.id for item in first + rest] == ids[::-1]
    assert [item.id for item in plain.deliveries.page(state=DeliveryState.DELIVERED)] == [ids[0]]
    assert [item.id for item in plain.deliveries.page(job_id=claimed[1].job_id)] == [ids[1]]
    assert plain.deliveries.page(job_id="video_none") == plain.deliveries.page(job_id="\x00") == []
    for unknown in ("msg_none", "\x00", "x" * 1_000_000):
        for call in (plain.deliveries.get, plain.deliveries.replay, lambda name: plain.deliveries.page(after=name)):
            with pytest.raises(DeliveryNotFound):
                call(unknown)


def test_old_webhooks_are_pruned_unless_they_are_pending(
    plain: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.jobs.deliveries._PRUNED_AT_ONCE", 2)
    for number in range(6):
        _cancelled(plain, f"https://{number}.example/")
    claimed = _claim(plain)
    for item in claimed[:3]:
        plain.deliveries.record_success(item, 200)
    for item in claimed[3:5]:
        plain.deliveries.record_failure(item, status=410, error="gone", delay_seconds=None)
    clock.now += 30 * _DAY
    recent = _cancelled(plain)
    plain.deliveries.prune(older_than_seconds=30 * _DAY)
    assert len(plain.deliveries.page()) == 7
    clock.now += 1
    plain.deliveries.prune(older_than_seconds=30 * _DAY)
    assert [item.id for item in plain.deliveries.page()] == [recent.id, claimed[5].id]
