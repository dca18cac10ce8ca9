"""The dispatcher's loop, with a generator that runs in the test's process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.dispatch import monitor
from deployments.dispatch.config import DispatcherConfig
from deployments.dispatch.dispatcher import Dispatcher
from deployments.jobs.job import Job, JobState
from deployments.jobs.store import JobStore
from deployments.messages import Begun, Completed, Message
from deployments.scheduling.policy import Policy
from tests.jobs import make_job
from tests.service import wait_until
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.types import ModelType

CONFIG = DispatcherConfig(
    slots=1,
    loaded_models=1,
    shared=False,
    policy=Policy(),
    lease_seconds=60,
    max_attempts=3,
    start_timeout_seconds=60,
)

Generate = Callable[[Job], AsyncIterator[Message]]


class _Stream:
    """Stands in for Serve's response generator."""

    def __init__(self, messages: AsyncIterator[Message]) -> None:
        self._messages = messages

    async def __anext__(self) -> Message:
        return await anext(self._messages)

    def cancel(self) -> None:
        pass


async def _complete(job: Job) -> AsyncIterator[Message]:
    yield Begun("replica 1")
    yield Completed(output={"folder": f"outputs/{job.id}/1"}, result={"generation_time_seconds": 1.0})


async def _hang(job: Job) -> AsyncIterator[Message]:
    yield Begun("replica 1")
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _no_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "list_replicas", list)


def _open(store_url: str, folder: Path, generate: Generate) -> Dispatcher:
    """Starts a dispatcher in the running event loop. Its generators call `generate`."""
    handle: Any = SimpleNamespace(
        deployment_name="t2v",
        options=lambda **options: SimpleNamespace(
            generate=SimpleNamespace(remote=lambda job: _Stream(generate(job))),
        ),
    )
    downloader: Any = None  # the built-in models need no downloads
    served = [load_catalogue()["tiny-t2v"]]
    return Dispatcher(store_url, folder, None, CONFIG, served, {ModelType.T2V: handle}, downloader)


def test_jobs_run_one_after_the_other_on_one_slot(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)

    async def run() -> None:
        dispatcher = _open(url, tmp_path, _complete)
        for _ in range(3):
            store.writer.submit(make_job())
        await asyncio.to_thread(wait_until, lambda: store.reader.count()[JobState.COMPLETED] == 3)
        await dispatcher.check_health()
        await dispatcher.__del__()
        with pytest.raises(RuntimeError, match="loop has ended"):
            await dispatcher.check_health()

    asyncio.run(run())
    claims = [event.job_id for event in store.events.after(0) if event.data["stage"] == "loading_model"]
    assert claims == [job.id for job in store.reader.page(newest_first=False)]


def test_a_shutdown_puts_the_running_job_back_without_counting_the_attempt(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)
    job = store.writer.submit(make_job())

    async def run() -> None:
        dispatcher = _open(url, tmp_path, _hang)
        await asyncio.to_thread(wait_until, lambda: store.reader.get(job.id).state is JobState.PROCESSING)
        await dispatcher.__del__()

    asyncio.run(run())
    pending = store.reader.get(job.id)
    assert (pending.state, pending.attempt, pending.fencing_token) == (JobState.PENDING, 0, 1)
