"""Old data is removed, and nothing that an unfinished job needs."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.jobs import cleaning, expiry
from deployments.jobs.cleaning import Cleaned, Cleaner
from deployments.jobs.events import describe
from deployments.jobs.job import Job, JobNotFound, JobState
from deployments.jobs.outbox import JobEnds
from deployments.jobs.retention import DAY_SECONDS, HOUR_SECONDS, Retention
from deployments.jobs.service import JobService
from deployments.jobs.store import JobStore
from deployments.storage.bucket import BucketStorage
from deployments.storage.folder import FolderStorage
from deployments.storage.keys import output_key
from deployments.storage.protocol import Storage
from tests.bucket import serving_bucket
from tests.jobs import make_job, make_params
from tests.unit.conftest import Clock
from wan22_bridge.catalogue import load_catalogue

_OLD = Retention(video_seconds=DAY_SECONDS, failed_job_seconds=DAY_SECONDS)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return FolderStorage(tmp_path / "files")


def _submit(store: JobStore, **values: Any) -> Job:
    return store.writer.submit(make_job(**values))


def _complete(store: JobStore, storage: Storage, job: Job, size_bytes: int = 10) -> Job:
    claimed = store.runner.claim(job.id, lease_seconds=10)
    assert claimed is not None
    folder = storage.work.output_folder(job.id, claimed.fencing_token)
    folder.mkdir(parents=True)
    (folder / "video.mp4").write_bytes(bytes(size_bytes))
    output = {"folder": output_key(job.id, claimed.fencing_token), "file_size_bytes": size_bytes}
    return store.runner.complete(job.id, claimed.fencing_token, output=output, result={})


def _fail(store: JobStore, job: Job) -> None:
    assert store.runner.claim(job.id, lease_seconds=10) is not None
    store.runner.fail(job.id, 1, {"message": "It broke."})


def _make_videos(store: JobStore, storage: Storage, *sizes: int, **values: Any) -> list[Job]:
    return [_complete(store, storage, _submit(store, **values), size) for size in sizes]


def _left(store: JobStore, storage: Storage) -> set[str]:
    """Returns the ids of the jobs, and checks that exactly the completed ones have files."""
    jobs = store.reader.page(limit=1000)
    completed = {job.id for job in jobs if job.state is JobState.COMPLETED}
    assert {outputs.job_id for outputs in storage.list_outputs()} == completed
    return {job.id for job in jobs}


def _count(cleaned: list[Cleaned], kind: str) -> tuple[int, int | None]:
    [found] = [item for item in cleaned if item.kind == kind]
    return found.count, found.size_bytes


_VIDEOS = "jobs with their videos"


def test_everything_is_kept_by_default(store: JobStore, storage: Storage, clock: Clock) -> None:
    [completed] = _make_videos(store, storage, 10)
    failed, cancelled = _submit(store), _submit(store)
    _fail(store, failed)
    store.writer.request_cancel(cancelled.id)
    clock.now += 10_000 * DAY_SECONDS
    Cleaner(store, storage, Retention()).clean()
    assert _left(store, storage) == {completed.id, failed.id, cancelled.id}


def test_old_jobs_are_deleted_with_their_videos_and_younger_ones_stay(
    store: JobStore, storage: Storage, clock: Clock
) -> None:
    late = _submit(store)
    _make_videos(store, storage, 10, 20)
    _fail(store, _submit(store))
    store.writer.request_cancel(_submit(store).id)
    clock.now += HOUR_SECONDS
    young = _make_videos(store, storage, 30)
    _complete(store, storage, late)
    clock.now += DAY_SECONDS - 1

    assert _count(Cleaner(store, storage, _OLD).clean(), _VIDEOS) == (4, 30)
    assert _left(store, storage) == {late.id, young[0].id}
    assert store.reader.output_bytes() == 40


def test_a_dry_run_reports_the_same_and_removes_nothing(store: JobStore, storage: Storage, clock: Clock) -> None:
    _make_videos(store, storage, 10, 20, 30)
    orphan = storage.work.output_folder("video_gone", 1)
    orphan.mkdir(parents=True)
    (orphan / "video.mp4").write_bytes(bytes(7))
    _age(storage, storage.put_input(b"unused"), 2 * DAY_SECONDS)
    clock.now += 2 * DAY_SECONDS
    cleaner = Cleaner(store, storage, replace(_OLD, video_bytes=40), orphans=True)

    before = _snapshot(store, storage)
    announced = cleaner.clean(dry_run=True)
    assert _snapshot(store, storage) == before
    assert cleaner.clean() == announced
    assert {item.kind: (item.count, item.size_bytes) for item in announced} == {
        "events": (9, None),
        "webhooks": (0, None),
        _VIDEOS: (3, 60),
        "leftover outputs": (0, 0),
        "orphaned outputs": (1, 7),
        "inputs": (0, 0),
        "orphaned inputs": (1, 6),
    }
    assert all(item.count == 0 for item in cleaner.clean())


def _snapshot(store: JobStore, storage: Storage) -> object:
    files = sorted((str(path), path.stat().st_mtime) for path in storage.work.root.rglob("*"))
    return files, store.reader.page(), store.events.after(0)


@pytest.mark.parametrize("protection", ["edited", "batch", "webhook"])
def test_a_video_that_unfinished_work_needs_is_kept(
    protection: str, store: JobStore, storage: Storage, clock: Clock, database_url: str
) -> None:
    if protection == "webhook":
        reporting = JobStore(database_url, clock=clock, job_ends=JobEnds(describe=describe, urls=("http://10.0.0.1/",)))
        [needed] = _make_videos(reporting, storage, 10)
        reporting.database.close()
    elif protection == "batch":
        first, other = store.writer.submit_batch([make_job(), make_job()])
        needed = _complete(store, storage, first)
    else:
        [needed] = _make_videos(store, storage, 10)
        other = _submit(store, source_job_id=needed.id)
    clock.now += 2 * DAY_SECONDS
    cleaner = Cleaner(store, storage, replace(_OLD, video_bytes=1, video_bytes_per_owner=1))

    cleaner.clean()
    assert needed.id in _left(store, storage)

    if protection == "webhook":
        [claimed] = store.deliveries.claim(trusted=True, limit=1, busy={}, limit_per_receiver=1)
        store.deliveries.record_success(claimed, 200)
    else:
        store.writer.request_cancel(other.id)
    cleaner.clean()
    assert needed.id not in _left(store, storage)


def test_favorites_stay_and_count_towards_the_size(store: JobStore, storage: Storage, clock: Clock) -> None:
    favorite, other = _make_videos(store, storage, 10, 10)
    store.videos.mark(favorite.id, favorite=True)
    clock.now += 2 * DAY_SECONDS
    Cleaner(store, storage, Retention(video_bytes=20, video_bytes_per_owner=20)).clean()
    assert _left(store, storage) == {favorite.id, other.id}
    Cleaner(store, storage, Retention(video_bytes=19, video_bytes_per_owner=19)).clean()
    assert _left(store, storage) == {favorite.id}
    Cleaner(store, storage, replace(_OLD, video_bytes=1, video_bytes_per_owner=1)).clean()
    assert _left(store, storage) == {favorite.id}
    store.videos.mark(favorite.id, favorite=False)
    Cleaner(store, storage, _OLD).clean()
    assert _left(store, storage) == set()


def test_no_video_is_deleted_for_one_that_is_about_to_be_deleted(store: JobStore, storage: Storage) -> None:
    old, _, leaving = _make_videos(store, storage, 10, 10, 10, owner="alice")
    store.videos.delete_later(leaving.id, seconds=60)
    Cleaner(store, storage, Retention(video_bytes=20, video_bytes_per_owner=20)).clean()
    assert store.reader.get(old.id)
    assert store.reader.get(leaving.id), "its deletion can still be undone"
    Cleaner(store, storage, Retention(video_bytes=10)).clean()
    with pytest.raises(JobNotFound):
        store.reader.get(old.id)


def test_pending_and_running_jobs_stay_however_old_they_are(store: JobStore, storage: Storage, clock: Clock) -> None:
    pending, running = _submit(store), _submit(store)
    assert store.runner.claim(running.id, lease_seconds=10) is not None
    snapshots = [storage.work.snapshot_path(job.id) for job in (pending, running)]
    for path in snapshots:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"snapshot")
    clock.now += 1000 * DAY_SECONDS
    Cleaner(store, storage, replace(_OLD, video_bytes=1)).clean()
    assert all(path.exists() for path in snapshots)
    assert sum(store.reader.count().values()) == 2


def test_the_oldest_videos_of_the_owner_with_the_most_bytes_are_deleted_first(
    store: JobStore, storage: Storage
) -> None:
    small = [_make_videos(store, storage, size, owner=owner)[0] for owner, size in (("alice", 30), ("bob", 60))]
    large = _make_videos(store, storage, 50, 50, 50, 50, owner="mallory")
    Cleaner(store, storage, Retention(video_bytes=190)).clean()
    assert _left(store, storage) == {job.id for job in (*small, *large[2:])}
    assert store.reader.output_bytes() == 190


def test_each_owner_has_a_limit(store: JobStore, storage: Storage) -> None:
    kept = []
    for owner in ("", "alice", "bob"):
        kept += _make_videos(store, storage, 50, 30, 40, owner=owner)[1:]
    Cleaner(store, storage, Retention(video_bytes_per_owner=70)).clean()
    assert _left(store, storage) == {job.id for job in kept}


def test_jobs_are_read_in_chunks(store: JobStore, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_OLDEST_FIRST", expiry._OLDEST_FIRST.limit(2))
    monkeypatch.setattr(cleaning, "_CHECKED_AT_ONCE", 2)
    jobs = _make_videos(store, storage, *[10] * 7)
    Cleaner(store, storage, Retention(video_bytes=20)).clean()
    assert _left(store, storage) == {job.id for job in jobs[5:]}


def test_a_job_that_is_retried_meanwhile_is_not_deleted(store: JobStore, storage: Storage, clock: Clock) -> None:
    failed = _submit(store)
    _fail(store, failed)
    clock.now += 2 * DAY_SECONDS
    found = list(store.expiry.find(_OLD))
    store.writer.retry(failed.id)
    assert found == [failed.id]
    assert not store.writer.delete_ended(failed.id)
    assert store.reader.get(failed.id).state is JobState.PENDING
    assert not store.writer.delete_ended("video_gone")


def test_files_of_a_job_whose_deletion_was_interrupted_are_removed(store: JobStore, storage: Storage) -> None:
    [job] = _make_videos(store, storage, 10)
    assert store.writer.delete_ended(job.id)  # and the process dies before the files are removed
    cleaned = Cleaner(store, storage, Retention()).clean()
    assert _count(cleaned, "leftover outputs") == (1, 10)
    assert list(storage.list_outputs()) == []


def test_a_new_database_in_the_place_of_a_lost_one_costs_no_videos(store: JobStore, storage: Storage) -> None:
    orphan = storage.work.output_folder("video_unknown", 1)
    orphan.mkdir(parents=True)
    found = Cleaner(store, storage, Retention()).clean()
    assert orphan.exists()
    assert [(item.kind, item.count) for item in found if item.kept and item.count] == [("orphaned outputs", 1)]
    Cleaner(store, storage, Retention(), orphans=True).clean()
    assert not orphan.exists()


def test_a_new_database_in_the_place_of_a_lost_one_costs_no_inputs(store: JobStore, storage: Storage) -> None:
    key = _age(storage, storage.put_input(b"unknown"), 2 * DAY_SECONDS)
    strict = Retention(input_seconds=1, input_bytes=1, input_bytes_per_owner=1)
    for _ in range(2):
        found = Cleaner(store, storage, strict).clean()
        assert [(item.kind, item.count) for item in found if item.kept and item.count] == [("orphaned inputs", 1)]
        assert _keys(storage) == {key}
    Cleaner(store, storage, Retention(), orphans=True).clean()
    assert _keys(storage) == set()


def test_an_input_is_known_until_it_is_removed(store: JobStore, storage: Storage, clock: Clock) -> None:
    clock.now = time.time()
    used, unused = storage.put_input(b"used"), storage.put_input(b"unused")  # as an earlier version has stored them
    job = _submit(store, params=make_params(image=used))
    store.input_owners.record("alice", [unused])
    Cleaner(store, storage, Retention()).clean()
    clock.now += 2 * DAY_SECONDS  # the record of the unused input is old now, and the file is not
    Cleaner(store, storage, Retention()).clean()
    store.writer.delete(job.id)
    for key in (used, unused):
        _age(storage, key, 2 * DAY_SECONDS)
    assert _count(Cleaner(store, storage, Retention()).clean(), "inputs") == (2, 10)
    assert _keys(storage) == set()


def test_a_bucket_keeps_videos_and_the_work_folder_keeps_only_work(store: JobStore, tmp_path: Path) -> None:
    with serving_bucket() as url:
        storage = BucketStorage(tmp_path / "work", url)
        work = FolderStorage(tmp_path / "work")
        ended, deleted = _make_videos(store, storage, 10, 20)
        running = _submit(store)
        assert store.runner.claim(running.id, lease_seconds=10) is not None
        for job in (ended, deleted):
            storage.publish_output(job.id, 1)  # and the generator dies before it removes its own copy
        storage.work.snapshot_path(running.id).parent.mkdir(parents=True)
        storage.work.snapshot_path(running.id).write_bytes(b"snapshot")
        assert store.writer.delete_ended(deleted.id)

        cleaned = Cleaner(store, storage, Retention()).clean()
        assert _count(cleaned, "leftover outputs") == (3, 50)
        assert {outputs.job_id for outputs in storage.list_outputs()} == {ended.id}
        assert {outputs.job_id for outputs in work.list_outputs()} == {running.id}


def test_a_deleted_job_is_reported_to_its_streams(store: JobStore, storage: Storage, clock: Clock) -> None:
    [job] = _make_videos(store, storage, 10, owner="alice")
    clock.now += 2 * DAY_SECONDS
    Cleaner(store, storage, _OLD).clean()
    last = store.events.after(0)[-1]
    assert (last.job_id, last.type, last.owner) == (job.id, "deleted", "alice")
    with pytest.raises(JobNotFound):
        store.reader.get(job.id)


def _age(storage: Storage, key: str, seconds: float) -> str:
    at = time.time() - seconds
    os.utime(storage.path(key), (at, at))
    return key


def _keys(storage: Storage) -> set[str]:
    return {found.key for found in storage.list_inputs()}


def test_an_input_is_kept_while_any_owners_unfinished_job_needs_it(store: JobStore, storage: Storage) -> None:
    key = _age(storage, storage.put_input(b"shared"), 100 * DAY_SECONDS)
    for owner in ("alice", "bob"):
        store.input_owners.record(owner, [key])
    ended, pending = (_submit(store, owner=owner, params=make_params(image=key)) for owner in ("alice", "bob"))
    store.writer.request_cancel(ended.id)
    strict = Retention(input_seconds=1, input_bytes=1, input_bytes_per_owner=1, upload_seconds=1)

    Cleaner(store, storage, strict).clean()
    assert _keys(storage) == {key}
    store.writer.request_cancel(pending.id)
    Cleaner(store, storage, strict).clean()
    assert _keys(storage) == set()


def test_inputs_of_ended_jobs_are_kept_by_default_and_unused_uploads_for_a_day(
    store: JobStore, storage: Storage
) -> None:
    used, unused, young = (storage.put_input(content) for content in (b"used", b"unused", b"young"))
    for key, days in ((used, 100), (unused, 1.1), (young, 0.9)):
        _age(storage, key, days * DAY_SECONDS)
    store.input_owners.record("", [unused, young])
    store.writer.request_cancel(_submit(store, params=make_params(image=used)).id)
    assert _count(Cleaner(store, storage, Retention()).clean(), "inputs") == (1, 6)
    assert _keys(storage) == {used, young}
    Cleaner(store, storage, Retention(input_seconds=50 * DAY_SECONDS)).clean()
    assert _keys(storage) == {young}


def test_the_oldest_unused_inputs_of_the_largest_owner_are_removed_first(store: JobStore, storage: Storage) -> None:
    keys = {}
    for number, (name, owner, size) in enumerate(
        [("small", "alice", 30), ("used", "mallory", 40), ("old", "mallory", 41), ("new", "mallory", 42)]
    ):
        keys[name] = _age(storage, storage.put_input(bytes(size)), (10 - number) * HOUR_SECONDS)
        store.input_owners.record(owner, [keys[name]])
    store.writer.request_cancel(_submit(store, params=make_params(image=keys["used"])).id)
    Cleaner(store, storage, Retention(input_bytes=120)).clean()
    assert _keys(storage) == {keys[name] for name in ("small", "used", "new")}
    Cleaner(store, storage, Retention(input_bytes_per_owner=50)).clean()
    assert _keys(storage) == {keys[name] for name in ("small", "used")}


def test_a_fresh_upload_is_kept_because_its_request_may_follow(store: JobStore, storage: Storage) -> None:
    key = _age(storage, storage.put_input(b"fresh"), HOUR_SECONDS - 60)
    store.input_owners.record("", [key])
    Cleaner(store, storage, Retention(input_bytes=1, input_bytes_per_owner=1)).clean()
    assert _keys(storage) == {key}


def test_the_owners_of_a_removed_input_can_not_name_it_any_more(
    store: JobStore, storage: Storage, clock: Clock
) -> None:
    clock.now = time.time() - 10 * HOUR_SECONDS
    key = _age(storage, storage.put_input(b"unused"), 10 * HOUR_SECONDS)
    store.input_owners.record("alice", [key])
    Cleaner(store, storage, Retention(input_bytes=1)).clean()
    assert not store.input_owners.has("alice", key)


def test_an_input_that_is_stored_again_meanwhile_is_not_removed(storage: Storage) -> None:
    key = _age(storage, storage.put_input(b"again"), DAY_SECONDS)
    [found] = storage.list_inputs()
    storage.put_input(b"again")
    assert not storage.remove_input(found)
    assert storage.path(key).read_bytes() == b"again"
    [found] = storage.list_inputs()
    assert storage.remove_input(found)
    assert not storage.remove_input(found)


def test_the_rest_of_an_interrupted_removal_is_an_old_input(store: JobStore, storage: Storage) -> None:
    path = storage.path(_age(storage, storage.put_input(b"unused"), 2 * DAY_SECONDS))
    path.rename(path.with_name(f".{path.name}.removed"))
    Cleaner(store, storage, Retention()).clean()
    assert list(path.parent.iterdir()) == []


def test_two_cleaners_at_once_delete_each_job_once(store: JobStore, storage: Storage, clock: Clock) -> None:
    jobs = _make_videos(store, storage, 10, 10, 10)
    clock.now += 2 * DAY_SECONDS
    found = store.expiry.find(_OLD)
    next(found)
    Cleaner(store, storage, _OLD).clean()
    assert [store.writer.delete_ended(job.id) for job in jobs] == [False] * 3
    assert list(found) in ([], [job.id for job in jobs[1:]])
    assert _left(store, storage) == set()


def test_a_retry_keeps_its_input_from_being_removed(store: JobStore, storage: Storage) -> None:
    spec = load_catalogue()["tiny-i2v"]
    key = _age(storage, storage.put_input(b"picture"), 100 * DAY_SECONDS)
    params = make_params(model="tiny-i2v", model_type=spec.type, image=key)
    job = _submit(store, params=params)
    store.writer.request_cancel(job.id)
    [listed] = storage.list_inputs()
    JobService(store, storage, [spec]).retry(job.id)
    assert not storage.remove_input(listed)
