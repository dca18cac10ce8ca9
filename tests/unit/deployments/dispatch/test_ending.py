"""The end of a claim: the files that stay when the lease is lost or the job is preempted."""

from pathlib import Path

import pytest

from deployments.dispatch.ending import ClaimEnding
from deployments.jobs.job import ClaimState, Job, JobState, LeaseLost
from deployments.jobs.store import JobStore
from deployments.messages import Completed, Failed, Preempted
from deployments.storage.folder import FolderStorage
from deployments.storage.keys import output_key
from tests.jobs import make_job
from wan22_bridge.errors import DiskFull


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path)


def _claim(store: JobStore, storage: FolderStorage) -> Job:
    """Claims a job and creates its output folder, as its generator does."""
    job = store.runner.claim(store.writer.submit(make_job()).id, lease_seconds=10)
    assert job is not None
    storage.work.output_folder(job.id, job.fencing_token).mkdir(parents=True)
    return job


def _complete_after_losing_the_lease(job: Job, store: JobStore, storage: FolderStorage) -> None:
    """Reports the job's completion, as the relay does, under a claim that is no longer valid."""
    ending = ClaimEnding(job, store, storage, max_attempts=3)
    with pytest.raises(LeaseLost):
        ending.end(Completed(output={"folder": output_key(job.id, job.fencing_token)}, result={}))
    ending.discard()


def test_a_lost_claim_removes_its_own_files_only(store: JobStore, storage: FolderStorage) -> None:
    job = _claim(store, storage)
    store.runner.release(job.id, job.fencing_token)
    store.runner.claim(job.id, lease_seconds=10)
    storage.work.output_folder(job.id, 2).mkdir()
    _complete_after_losing_the_lease(job, store, storage)
    assert not storage.work.output_folder(job.id, 1).exists()
    assert storage.work.output_folder(job.id, 2).exists()


def test_a_video_stays_when_the_answer_to_its_commit_was_lost(store: JobStore, storage: FolderStorage) -> None:
    job = _claim(store, storage)
    folder = output_key(job.id, job.fencing_token)
    store.runner.complete(job.id, job.fencing_token, output={"folder": folder}, result={})
    _complete_after_losing_the_lease(job, store, storage)
    assert storage.path(folder).is_dir()


def test_a_job_whose_video_found_no_space_waits_with_its_snapshot(store: JobStore, storage: FolderStorage) -> None:
    job = _claim(store, storage)
    storage.work.snapshot_path(job.id).write_bytes(b"snapshot")
    full = Failed(DiskFull("No space left on device.").to_dict())
    for _ in range(2):
        ClaimEnding(job, store, storage, max_attempts=3).end(full)
        assert store.reader.get(job.id).state is JobState.PENDING
        assert storage.work.snapshot_path(job.id).exists()
        assert not storage.work.output_folder(job.id, job.fencing_token).exists()
        claimed = store.runner.claim(job.id, lease_seconds=10)
        assert claimed is not None
        job = claimed
    ClaimEnding(job, store, storage, max_attempts=3).end(full)
    ended = store.reader.get(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert (ended.error["code"], ended.error["can_retry"]) == ("disk_full", True)


def test_a_deleted_job_leaves_no_files(store: JobStore, storage: FolderStorage) -> None:
    job = _claim(store, storage)
    store.writer.delete(job.id)
    _complete_after_losing_the_lease(job, store, storage)
    assert list(storage.list_outputs()) == []


def test_a_preempted_job_is_pending_again_and_keeps_its_snapshot(store: JobStore, storage: FolderStorage) -> None:
    job = _claim(store, storage)
    storage.work.snapshot_path(job.id).touch()
    store.runner.request_preemption(job.id, job.fencing_token)
    ClaimEnding(job, store, storage, max_attempts=3).end(Preempted())
    pending = store.reader.get(job.id)
    assert (pending.state, pending.attempt, pending.fencing_token) == (JobState.PENDING, 0, 1)
    assert storage.work.snapshot_path(job.id).exists()
    assert not storage.work.output_folder(job.id, 1).exists()
    store.runner.claim(job.id, lease_seconds=10)
    assert store.reader.claim_state(job.id, 2) is ClaimState.HELD, "the preemption concerned the first claim only"
