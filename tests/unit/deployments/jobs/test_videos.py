"""Lists of completed videos, favorites, tags, and deletion with undo, on SQLite and on PostgreSQL."""

from typing import Any

import pytest

from deployments.jobs.due_deletions import delete_due_videos
from deployments.jobs.job import Job, JobNotFound, JobState
from deployments.jobs.store import JobStore
from deployments.jobs.videos import Shape, VideoFilter
from deployments.storage.folder import FolderStorage
from tests.jobs import make_job, make_params
from tests.unit.conftest import Clock


def _complete(store: JobStore, *, owner: str = "", size_bytes: int = 10, **changes: Any) -> Job:
    job = store.writer.submit(make_job(owner=owner, params=make_params(**changes)))
    store.runner.claim(job.id, lease_seconds=60)
    output = {"folder": f"outputs/{job.id}/1", "file_size_bytes": size_bytes}
    return store.runner.complete(job.id, 1, output=output, result={"generation_time_seconds": 1.0})


def _find(store: JobStore, *, owner: str | None = None, **conditions: Any) -> list[str]:
    found, totals = store.videos.page(VideoFilter(**conditions), owner=owner)
    assert totals.count == len(found)
    assert totals.size_bytes == 10 * len(found)
    return [job.params.prompt for job in found]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("fox", True),
        ("FOX  the", True),
        ("снег 雪", True),
        ("СНЕГ", True),
        ("ELSTRASSE", True),
        ("fox cat", False),
        ("100%", True),
        ("10_%", False),
        ("%", True),
        ("_", False),
        ("/", False),
        ("\\", False),
        ("\x00", True),
        ("  ", True),
    ],
)
def test_a_search_finds_videos_whose_prompt_has_all_words(query: str, found: bool, store: JobStore) -> None:
    _complete(store, prompt="The Fox: снег, 雪, Elstraße 100%")
    assert bool(_find(store, query=query)) is found


def test_a_search_finds_the_prompt_of_each_part_of_a_long_video(store: JobStore) -> None:
    parts = [{"prompt": prompt, "num_frames": 5, "seed": 1} for prompt in ("a cat", "a dog")]
    _complete(store, prompt="a cat", segments=parts)
    assert _find(store, query="dog") == ["a cat"]


def test_each_condition_leaves_out_videos(store: JobStore, clock: Clock) -> None:
    _complete(store, prompt="wide", width=96)
    clock.now += 10
    _complete(store, prompt="high", height=96, model_type="I2V-A14B")
    clock.now += 10
    mock = _complete(store, prompt="mock", is_mock=True)
    store.videos.mark(mock.id, favorite=True, tags=["sea", "日"])
    start = clock.now - 20
    for conditions, prompts in (
        ({}, ["mock", "high", "wide"]),
        ({"model_type": "I2V-A14B"}, ["high"]),
        ({"shape": Shape.LANDSCAPE}, ["wide"]),
        ({"shape": Shape.PORTRAIT}, ["high"]),
        ({"shape": Shape.SQUARE}, ["mock"]),
        ({"is_mock": True}, ["mock"]),
        ({"is_mock": False}, ["high", "wide"]),
        ({"favorite": True}, ["mock"]),
        ({"favorite": False}, ["high", "wide"]),
        ({"tag": "sea"}, ["mock"]),
        ({"tag": "日"}, ["mock"]),
        ({"tag": "se"}, []),
        ({"completed_from": start + 10}, ["mock", "high"]),
        ({"completed_before": start + 10}, ["wide"]),
        ({"favorite": True, "is_mock": False}, []),
    ):
        assert _find(store, **conditions) == prompts, conditions


def test_pages_continue_after_a_video_in_both_orders(store: JobStore) -> None:
    jobs = [_complete(store, prompt=f"cat {number}") for number in range(3)]
    for newest_first, after, expected in ((True, jobs[2], jobs[1]), (False, jobs[0], jobs[1])):
        page, totals = store.videos.page(VideoFilter(query="cat"), after=after.id, limit=1, newest_first=newest_first)
        assert [job.id for job in page] == [expected.id]
        assert totals.count == 3, "the totals are over all pages"


def test_favorites_and_tags_stay_until_they_are_changed(store: JobStore) -> None:
    job = _complete(store)
    assert (job.favorite, job.tags) == (False, [])
    store.videos.mark(job.id, favorite=True)
    assert store.videos.mark(job.id, tags=["b", "a"]).favorite
    marked = store.videos.mark(job.id)
    assert (marked.favorite, marked.tags) == (True, ["b", "a"])
    store.videos.mark(_complete(store, owner="alice").id, tags=["a"])
    assert store.videos.tags() == {"a": 2, "b": 1}
    assert store.videos.tags(owner="alice") == {"a": 1}


def test_another_owner_finds_and_changes_nothing(store: JobStore) -> None:
    job = _complete(store, owner="alice")
    assert _find(store, owner="bob") == _find(store, owner="bob", query="red") == []
    assert len(_find(store, owner="alice", query="red")) == 1
    for write in (store.videos.mark, store.videos.restore):
        with pytest.raises(JobNotFound):
            write(job.id, owner="bob")
    with pytest.raises(JobNotFound):
        store.videos.delete_later(job.id, seconds=1, owner="bob")


def test_a_deletion_can_be_undone_until_it_is_due(
    store: JobStore, clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    storage = FolderStorage(tmp_path_factory.mktemp("data"))
    kept, gone = _complete(store, prompt="kept", owner="alice"), _complete(store, prompt="gone", owner="alice")
    folder = storage.work.output_folder(gone.id, 1)
    folder.mkdir(parents=True)
    for job in (kept, gone):
        store.videos.mark(job.id, tags=["sea"])
        store.videos.delete_later(job.id, seconds=30)
    assert _find(store) == _find(store, tag="sea") == _find(store, owner="alice") == []
    assert store.videos.tags() == {}
    clock.now += 29
    delete_due_videos(store, storage)
    store.videos.restore(kept.id)
    assert folder.exists()
    clock.now += 1
    assert store.videos.due_deletions() == [gone.id]
    delete_due_videos(store, storage)
    assert not folder.exists()
    assert _find(store) == ["kept"]
    with pytest.raises(JobNotFound):
        store.reader.get(gone.id)


def test_a_video_that_is_about_to_be_deleted_is_in_no_list_of_jobs(store: JobStore) -> None:
    def read_lists(owner: str | None) -> list[tuple[list[str], int]]:
        queue, counts = store.queue.page(owner=owner), store.reader.count(owner=owner)
        listed = (
            (store.reader.page(owner=owner), counts[JobState.COMPLETED]),
            (queue.jobs, queue.counts[JobState.COMPLETED]),
            (store.snapshots.current(owner=owner).jobs, store.snapshots.queue(owner=owner).counts[JobState.COMPLETED]),
        )
        return [([job.id for job in jobs], count) for jobs, count in listed]

    kept, leaving = _complete(store, owner="alice"), _complete(store, owner="alice")
    last = store.events.last_sequence()
    for _ in range(2):
        store.videos.delete_later(leaving.id, seconds=30)
    assert read_lists(None) == read_lists("alice") == [([kept.id], 1)] * 3
    assert store.reader.get(leaving.id).deletion_due_at
    store.queue.clear()
    assert store.queue.page().counts[JobState.COMPLETED] == 0
    for _ in range(2):
        store.videos.restore(leaving.id)
    assert read_lists(None)[0] == ([leaving.id, kept.id], 2)
    events = [(event.type, event.owner) for event in store.events.after(last) if event.job_id == leaving.id]
    assert events == [("deleted", "alice"), ("restored", "alice")]


def test_a_deletion_that_is_undone_at_the_last_moment_deletes_nothing(store: JobStore, clock: Clock) -> None:
    job = _complete(store)
    store.videos.delete_later(job.id, seconds=1)
    clock.now += 1
    [due] = store.videos.due_deletions()
    store.videos.restore(job.id)
    assert store.writer.delete_due(due) is False
    assert store.reader.get(job.id).deletion_due_at is None
    assert store.writer.delete_due("video_0") is False
