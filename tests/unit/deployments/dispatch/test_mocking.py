"""Mock jobs: placeholder videos that say so, in place of a model's videos."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from deployments.dispatch.claiming import JobClaimer, MockClaimer
from deployments.dispatch.config import DispatcherConfig
from deployments.dispatch.ending import ClaimEnding
from deployments.dispatch.relays import Relays
from deployments.jobs.events import describe
from deployments.jobs.generation_mode import GenerationMode
from deployments.jobs.job import Job, JobState
from deployments.jobs.outbox import JobEnds
from deployments.jobs.retention import Retention
from deployments.jobs.store import JobStore
from deployments.messages import Failed
from deployments.scheduling.policy import Policy
from deployments.scheduling.slots import Slots
from deployments.storage.folder import FolderStorage
from deployments.webhooks.lane import WebhookConfig
from tests.jobs import make_job, make_params
from wan22_bridge.errors import GenerationFailed, ModelMissing, OutOfMemory, Wan22Error
from wan22_bridge.media.writer import read_video_info

_CONFIG = DispatcherConfig(
    slots=1,
    loaded_models=1,
    shared=True,
    policy=Policy(age_seconds=60, patience_seconds=60),
    lease_seconds=30,
    max_attempts=3,
    start_timeout_seconds=60,
    job_ends=JobEnds(describe=describe),
    webhooks=WebhookConfig(),
    retention=Retention(),
    min_free_bytes=0,
)
MISSING = ModelMissing("tiny-t2v is missing.")


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path)


def _dispatch(store: JobStore, storage: FolderStorage) -> None:
    """Claims and runs what can run without a generator, as the dispatcher's loop does."""

    async def run() -> None:
        slots = Slots(1, models=1, shared=True)
        metrics: Any = SimpleNamespace(claimed=lambda *_: None, ended=lambda *_: None)  # Ray's need a replica
        relays = Relays(_CONFIG, store, storage, {}, slots, metrics)
        await JobClaimer(_CONFIG, store, slots, relays, metrics).claim_next([])
        claimer = MockClaimer(_CONFIG, store, relays, metrics)
        while await claimer.claim_next():
            assert not relays.on_slots
            await relays.wait()

    asyncio.run(run())


def _mock(store: JobStore, **params: Any) -> Job:
    return store.writer.submit(make_job(params=make_params(is_mock=True, **params)))


def test_a_mock_video_has_the_size_that_was_asked_for_and_says_so(store: JobStore, storage: FolderStorage) -> None:
    job = _mock(store, width=320, height=192, num_frames=13, fps=12)
    _dispatch(store, storage)
    job = store.reader.get(job.id)
    assert (job.state, job.progress) == (JobState.COMPLETED, 100)
    assert job.output is not None
    assert job.result is not None
    folder = storage.path(job.output["folder"])
    info = read_video_info(folder / "video.mp4")
    assert (info.width, info.height, info.num_frames, info.fps) == (320, 192, 13, 12)
    assert info.parameters["is_mock"] is True
    assert (job.result["peak_vram_usage_mb"], job.result["average_vram_usage_mb"]) == (0.0, 0.0)
    assert (job.result["is_mock"], job.result["mock_reason"], job.result["model_used"]) == (True, None, "mock")
    assert {path.name for path in folder.iterdir()} == {"video.mp4", "thumbnail.webp", "last_frame.png"}


def test_the_word_is_in_every_frame_of_a_mock_video(store: JobStore, storage: FolderStorage) -> None:
    job = store.reader.get(_mock(store, width=320, height=192).id)
    _dispatch(store, storage)
    output = store.reader.get(job.id).output
    assert output is not None
    with av.open(str(storage.path(f"{output['folder']}/video.mp4"))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    reddish = [frame[:60, :, 0].astype(int) - frame[:60, :, 2] > 80 for frame in frames]
    assert len(frames) == 5
    assert all(0.05 < np.mean(letters) < 0.6 for letters in reddish)


def test_mock_jobs_need_no_slot_and_count_for_no_model(store: JobStore, storage: FolderStorage) -> None:
    real = store.writer.submit(make_job())
    assert store.runner.claim(real.id, lease_seconds=60) is not None
    jobs = [_mock(store) for _ in range(5)]
    assert store.reader.next_pending(["tiny-t2v"], limit=10) == []
    _dispatch(store, storage)
    assert {store.reader.get(job.id).state for job in jobs} == {JobState.COMPLETED}
    assert store.reader.get(real.id).state is JobState.PROCESSING
    assert store.reader.run_times("tiny-t2v") == []


def test_a_paused_queue_starts_no_mock_job(store: JobStore, storage: FolderStorage) -> None:
    job = _mock(store)
    store.queue.set_paused(True)
    _dispatch(store, storage)
    assert store.reader.get(job.id).state is JobState.PENDING


def _fail(store: JobStore, storage: FolderStorage, error: Wan22Error) -> Job:
    """Claims a real job, ends the claim with an error, and returns the job."""
    job = store.runner.claim(store.writer.submit(make_job()).id, lease_seconds=10)
    assert job is not None
    ClaimEnding(job, store, storage, max_attempts=3).end(Failed(error.to_dict()))
    return store.reader.get(job.id)


@pytest.mark.parametrize("error", [MISSING, OutOfMemory("It needs 80 GB.")])
def test_with_the_fallback_a_job_without_model_or_memory_gets_a_mock_video_that_says_why(
    store: JobStore, storage: FolderStorage, error: Wan22Error
) -> None:
    GenerationMode.change(store.settings, lambda _: GenerationMode(mock_fallback=True))
    job = _fail(store, storage, error)
    assert (job.state, job.params.is_mock, job.params.mock_reason) == (JobState.PENDING, True, error.message)
    _dispatch(store, storage)
    job = store.reader.get(job.id)
    assert job.state is JobState.COMPLETED
    assert job.result is not None
    assert job.result["mock_reason"] == error.message


def test_the_fallback_hides_no_other_error(store: JobStore, storage: FolderStorage) -> None:
    GenerationMode.change(store.settings, lambda _: GenerationMode(mock_fallback=True))
    assert _fail(store, storage, GenerationFailed("Each frame has one color.")).state is JobState.FAILED


@pytest.mark.parametrize("mode", [GenerationMode(), GenerationMode(mock=True)])
def test_without_the_fallback_a_real_job_fails(store: JobStore, storage: FolderStorage, mode: GenerationMode) -> None:
    GenerationMode.change(store.settings, lambda _: mode)
    job = _fail(store, storage, MISSING)
    assert (job.state, job.params.is_mock) == (JobState.FAILED, False)


def test_pending_jobs_of_a_model_become_mock_jobs_together(store: JobStore, storage: FolderStorage) -> None:
    job = store.writer.submit(make_job())
    other = store.writer.submit(make_job(params=make_params(model="tiny-i2v")))
    store.downloads.mock("tiny-t2v", "It could not be downloaded.")
    _dispatch(store, storage)
    job = store.reader.get(job.id)
    assert (job.state, job.params.mock_reason) == (JobState.COMPLETED, "It could not be downloaded.")
    assert store.reader.get(other.id).state is JobState.PENDING
