"""The relay of one claimed job between its generator and the store."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError

from deployments.dispatch.ending import ClaimEnding
from deployments.dispatch.relay import JobRelay
from deployments.jobs.job import Job, JobState
from deployments.jobs.store import JobStore
from deployments.messages import Advanced, Begun, Completed, Message
from deployments.storage.folder import FolderStorage
from deployments.storage.keys import output_key
from tests.jobs import make_job
from wan22_bridge.types import Progress, Stage


class _Stream:
    """Stands in for Serve's response generator: yields messages, then waits for ever or breaks."""

    def __init__(self, messages: Sequence[Message], *, breaks: bool = False) -> None:
        self._left = list(messages)
        self._breaks = breaks

    async def __anext__(self) -> Message:
        if not self._left and self._breaks:
            raise ActorDiedError
        if not self._left:
            await asyncio.Event().wait()
        return self._left.pop(0)

    def cancel(self) -> None:
        pass


def _relay(
    store: JobStore, folder: Path, messages: Sequence[Message], *, start_timeout_seconds: float, breaks: bool = False
) -> JobRelay:
    """Makes the relay of a claimed job whose generator sends these messages."""
    job = store.runner.claim(store.writer.submit(make_job()).id, lease_seconds=10)
    assert job is not None
    storage = FolderStorage(folder)
    storage.work.output_folder(job.id, job.fencing_token).mkdir(parents=True)
    ending = ClaimEnding(job, store, storage, max_attempts=1)
    stream = _Stream(messages, breaks=breaks)
    return JobRelay(job, store, ending, lambda job: stream, start_timeout_seconds=start_timeout_seconds)


def _run(relay: JobRelay, store: JobStore) -> Job:
    asyncio.run(relay.run())
    return store.reader.get(relay.job.id)


def test_messages_are_written_until_the_last_one(store: JobStore, tmp_path: Path) -> None:
    messages: list[Message] = [
        Begun("replica 1"),
        Advanced(Progress(stage=Stage.GENERATING, eta_seconds=60)),
        Completed(output={"folder": "outputs/x/1"}, result={"timings": {"decoding": 2.0}}),
    ]
    relay = _relay(store, tmp_path, messages, start_timeout_seconds=60)
    assert _run(relay, store).state is JobState.COMPLETED
    assert (relay.begun, relay.replica, relay.ended, relay.ending.outcome) == (True, "replica 1", True, "completed")
    assert relay.ending.timings == {"decoding": 2.0}
    assert relay.ends_at is not None
    assert relay.load_seconds is not None


def test_a_job_that_no_generator_begins_fails_after_its_last_attempt(store: JobStore, tmp_path: Path) -> None:
    job = _run(_relay(store, tmp_path, [], start_timeout_seconds=0.01), store)
    assert (job.state, (job.error or {})["code"]) == (JobState.FAILED, "generator_unavailable")


@pytest.mark.parametrize("stage", [Stage.LOADING_MODEL, Stage.GENERATING])
def test_a_generator_that_dies_counts_against_the_job_once_the_job_computes(
    stage: Stage, store: JobStore, tmp_path: Path
) -> None:
    messages: list[Message] = [Begun("replica 1"), Advanced(Progress(stage=stage))]
    job = _run(_relay(store, tmp_path, messages, start_timeout_seconds=60, breaks=True), store)
    computes = stage is Stage.GENERATING
    assert job.state is (JobState.FAILED if computes else JobState.PENDING)
    assert (job.error or {}).get("code") == ("interrupted" if computes else None)
    assert not (tmp_path / output_key(job.id, job.fencing_token)).exists()


def test_a_generator_that_dies_after_a_snapshot_does_not_count_against_the_job(store: JobStore, tmp_path: Path) -> None:
    messages: list[Message] = [
        Begun("replica 1"),
        Advanced(Progress(stage=Stage.GENERATING, current_step=1, saved_steps=1)),
    ]
    job = _run(_relay(store, tmp_path, messages, start_timeout_seconds=60, breaks=True), store)
    assert (job.state, job.attempt) == (JobState.PENDING, 1)


def test_a_stopped_relay_puts_its_job_back_without_counting_the_attempt(store: JobStore, tmp_path: Path) -> None:
    async def run(relay: JobRelay) -> None:
        relay.stop()
        await relay.run()

    relay = _relay(store, tmp_path, [], start_timeout_seconds=60)
    asyncio.run(run(relay))
    job = store.reader.get(relay.job.id)
    assert (job.state, job.attempt) == (JobState.PENDING, 0)


def test_a_relay_that_has_lost_its_lease_removes_its_files(store: JobStore, tmp_path: Path) -> None:
    relay = _relay(store, tmp_path, [Advanced(Progress(stage=Stage.GENERATING))], start_timeout_seconds=60)
    store.runner.release(relay.job.id, relay.job.fencing_token)
    assert _run(relay, store).state is JobState.PENDING
    assert not (tmp_path / output_key(relay.job.id, relay.job.fencing_token)).exists()
