"""What a claim leaves on the disk when it is told that its lease is lost."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from deployments.dispatch.follower import Follower
from deployments.jobs.job import ClaimState, Job, JobState, LeaseLost
from deployments.jobs.store import JobStore
from deployments.messages import Completed, Yielded
from deployments.storage.folder import Storage
from tests.jobs import make_job


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def _claim(store: JobStore, storage: Storage) -> Job:
    """A claimed job whose generator has written its folder."""
    job = store.claim(store.submit(make_job()).id, lease_seconds=10)
    assert job is not None
    storage.output_folder(job.id, job.fencing_token).mkdir(parents=True)
    return job


def _follower(job: Job, store: JobStore, storage: Storage) -> Follower:
    nobody: Any = None
    return Follower(job, store, storage, nobody, start_timeout_seconds=1, max_attempts=3)


def _lose_lease(follower: Follower, job: Job, storage: Storage) -> None:
    """Ends the job as the follower does, which finds that its lease is lost."""
    folder = storage.output_key(job.id, job.fencing_token)
    with pytest.raises(LeaseLost):
        follower._end(Completed(output={"folder": folder}, result={}))
    asyncio.run(follower._write(follower._discard))


def test_a_claim_that_was_overtaken_takes_its_files_along(store: JobStore, storage: Storage) -> None:
    job = _claim(store, storage)
    store.release(job.id, job.fencing_token, True)
    store.claim(job.id, lease_seconds=10)
    storage.output_folder(job.id, 2).mkdir()
    _lose_lease(_follower(job, store, storage), job, storage)
    assert not storage.output_folder(job.id, 1).exists()
    assert storage.output_folder(job.id, 2).exists()


def test_a_video_stays_though_the_commit_was_answered_by_silence(store: JobStore, storage: Storage) -> None:
    job = _claim(store, storage)
    folder = storage.output_key(job.id, job.fencing_token)
    store.complete(job.id, job.fencing_token, output={"folder": folder}, result={})
    _lose_lease(_follower(job, store, storage), job, storage)
    assert storage.path(folder).is_dir()


def test_a_deleted_job_leaves_nothing(store: JobStore, storage: Storage) -> None:
    job = _claim(store, storage)
    store.delete(job.id)
    _lose_lease(_follower(job, store, storage), job, storage)
    assert storage.output_jobs() == []


def test_a_job_that_gave_up_its_slot_waits_again_with_what_it_kept(store: JobStore, storage: Storage) -> None:
    job = _claim(store, storage)
    storage.snapshot_path(job.id).touch()
    store.ask_to_yield(job.id, job.fencing_token)
    _follower(job, store, storage)._end(Yielded())
    waiting = store.get(job.id)
    assert (waiting.state, waiting.attempt, waiting.fencing_token) == (JobState.PENDING, 0, 1)
    assert storage.snapshot_path(job.id).exists()
    assert not storage.output_folder(job.id, 1).exists()
    store.claim(job.id, lease_seconds=10)
    assert store.claim_state(job.id, 2) is ClaimState.HELD, "the next claim was not asked"
