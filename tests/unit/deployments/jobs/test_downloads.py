"""Downloads for which jobs wait: recorded once, and seen in each job."""

from collections.abc import Callable

import pytest

from deployments.jobs.job import Job, JobState
from deployments.jobs.store import JobStore
from deployments.jobs.waiting import downloaded_model, stream_keys
from tests.jobs import make_job, make_params
from wan22_bridge.types import Progress, Stage

_MODEL = "tiny-t2v"
_ERROR = {"type": "model_loading", "code": "hub_refused", "message": "It is not there."}


def _record(store: JobStore, percent: float) -> None:
    store.downloads.record(_MODEL, Progress(stage=Stage.DOWNLOADING_MODEL, percent=percent, eta_seconds=60.0))


def _shown(job: Job) -> tuple[str, float, float | None]:
    return job.stage, job.progress, job.eta_seconds


_READS: dict[str, Callable[[JobStore, Job], Job]] = {
    "a job": lambda store, job: store.reader.get(job.id),
    "a listing": lambda store, job: store.reader.page()[0],
    "the queue": lambda store, job: store.queue.page().jobs[0],
    "the queue's job": lambda store, job: store.queue.find(job.id)[0],
    "the active jobs": lambda store, job: store.queue.active().jobs[0],
    "a batch": lambda store, job: store.batches.find(job.batch_id or "").jobs[1],
    "a stream's state": lambda store, job: store.snapshots.job(job.id).jobs[0],
    "a socket's state": lambda store, job: store.snapshots.current().jobs[0],
}


@pytest.mark.parametrize("read", _READS)
def test_each_waiting_job_shows_the_progress_of_its_models_download(store: JobStore, read: str) -> None:
    job = store.writer.submit_batch([make_job(), make_job()])[1]
    assert _shown(_READS[read](store, job)) == ("queued", 0.0, None)
    _record(store, 20.0)
    assert _shown(_READS[read](store, job)) == ("downloading_model", 20.0, 60.0)
    _record(store, 40.0)
    assert _shown(_READS[read](store, job)) == ("downloading_model", 40.0, 60.0)
    store.downloads.end(_MODEL)
    assert _shown(_READS[read](store, job)) == ("queued", 0.0, None)


def test_a_download_is_recorded_once_however_many_jobs_wait(store: JobStore) -> None:
    waiting = [store.writer.submit(make_job()) for _ in range(20)]
    last = store.events.last_sequence()
    _record(store, 20.0)
    [event] = store.events.after(last)
    assert downloaded_model(event) == _MODEL
    for job in waiting:
        assert store.events.after(last, job_ids=stream_keys(job)) == [event], "each stream finds it"
    store.downloads.end(_MODEL)
    store.downloads.end(_MODEL)
    assert len(store.events.after(event.sequence)) == 1, "the end of no download is no event"


def test_only_the_pending_jobs_of_the_model_show_a_download(store: JobStore) -> None:
    other = store.writer.submit(make_job(params=make_params(model="tiny-ti2v")))
    mock = store.writer.submit(make_job(params=make_params(is_mock=True)))
    running, cancelled = (store.writer.submit(make_job()) for _ in range(2))
    store.runner.claim(running.id, lease_seconds=60)
    store.writer.request_cancel(cancelled.id)
    _record(store, 20.0)
    stages = [store.reader.get(job.id).stage for job in (other, mock, running, cancelled)]
    assert stages == ["queued", "queued", "loading_model", "cancelled"]


def test_the_event_of_a_waiting_job_has_the_progress_of_the_download(store: JobStore) -> None:
    first, second = (store.writer.submit(make_job()).id for _ in range(2))
    _record(store, 20.0)
    last = store.events.last_sequence()
    store.writer.reorder([second, first])
    reordered = [event for event in store.events.after(last) if "stage" in event.data]
    assert [(event.data["stage"], event.data["progress"]) for event in reordered] == [("downloading_model", 20.0)] * 2


def test_jobs_whose_model_cannot_be_downloaded_fail(store: JobStore) -> None:
    job = store.writer.submit(make_job())
    _record(store, 20.0)
    store.downloads.fail(_MODEL, _ERROR)
    failed = store.reader.get(job.id)
    assert (failed.state, failed.error, failed.stage) == (JobState.FAILED, _ERROR, "failed")
    assert store.writer.submit(make_job()).stage == "queued"
    assert store.reader.page(limit=1)[0].stage == "queued", "the download has ended"
