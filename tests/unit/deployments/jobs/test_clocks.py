"""Leases and heartbeats between processes whose clocks differ, and the database's own clock."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deployments.jobs.job import JobState
from deployments.jobs.outbox import JobEnds
from deployments.jobs.replica_registry import ReplicaInfo, ReplicaRegistry
from deployments.jobs.store import JobStore
from tests.jobs import expire_leases, make_job

_HOUR = 3600.0
_URL = "https://receiver.example/"


@contextmanager
def _process_clock_ahead(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """Runs the context as a process whose clock differs from the database's."""
    right = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: right() + seconds)
        yield


@pytest.fixture
def store(database_url: str) -> Iterator[JobStore]:
    """A store of one process; the others use the same database under another clock."""
    opened = JobStore(database_url, clock=lambda: time.time())
    yield opened
    opened.database.close()


@pytest.fixture
def other(database_url: str, store: JobStore) -> Iterator[JobStore]:
    """The store of another process, which delivers and ends jobs as well."""
    ends = JobEnds(describe=lambda job: {"id": job.id})
    opened = JobStore(database_url, clock=lambda: time.time(), job_ends=ends)
    yield opened
    opened.database.close()


@pytest.mark.parametrize("ahead", [_HOUR, -_HOUR])
def test_a_dispatcher_with_another_clock_takes_over_no_running_job(
    store: JobStore, other: JobStore, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = (store.writer.submit(make_job()).id for _ in range(2))
    store.runner.claim(mine, lease_seconds=60)
    with _process_clock_ahead(monkeypatch, ahead):
        other.runner.claim(theirs, lease_seconds=60)
        assert other.runner.reclaim_expired(max_attempts=3) == []
        other.runner.renew(theirs, 1, 60)
    assert store.runner.reclaim_expired(max_attempts=3) == []
    assert {store.reader.get(job_id).state for job_id in (mine, theirs)} == {JobState.PROCESSING}

    expire_leases(store)
    with _process_clock_ahead(monkeypatch, -_HOUR):
        assert len(other.runner.reclaim_expired(max_attempts=3)) == 2


@pytest.mark.parametrize("ahead", [_HOUR, -_HOUR])
def test_a_replica_with_another_clock_is_alive(
    store: JobStore, other: JobStore, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(registry: ReplicaRegistry, replica_id: str) -> None:
        registry.report(
            ReplicaInfo(id=replica_id, deployment="t2v", node="", process_id=1, device="CPU", job_id=None, models=[])
        )

    mine, theirs = ReplicaRegistry(store.database), ReplicaRegistry(other.database)
    report(mine, "a")
    with _process_clock_ahead(monkeypatch, ahead):
        report(theirs, "b")
        assert len(theirs.all()) == 2
    assert [replica.id for replica in mine.all()] == ["a", "b"]


@pytest.mark.parametrize("ahead", [_HOUR, -_HOUR])
def test_a_webhook_in_progress_is_not_sent_by_a_process_with_another_clock(
    store: JobStore, other: JobStore, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim(deliverer: JobStore) -> int:
        return len(deliverer.deliveries.claim(trusted=False, limit=9, busy={}, limit_per_receiver=9))

    with _process_clock_ahead(monkeypatch, ahead):
        other.writer.request_cancel(other.writer.submit(make_job(webhook_url=_URL)).id)
    assert claim(store) == 1, "it is due at once"
    with _process_clock_ahead(monkeypatch, ahead):
        assert claim(other) == 0


def test_the_time_of_the_database_is_unix_time(store: JobStore) -> None:
    before = time.time()
    job = store.runner.claim(store.writer.submit(make_job()).id, lease_seconds=1000)
    assert job is not None
    assert job.lease_expires_at is not None
    assert before - 1 <= job.lease_expires_at - 1000 <= time.time() + 1
