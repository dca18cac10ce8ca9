"""The generator's reaction when a claim ends before its job does."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from deployments.generation.device import Stop
from deployments.generation.generator import Generator, GeneratorConfig
from deployments.jobs.job import ClaimState
from deployments.jobs.store import JobStore
from deployments.messages import Message, Preempted, Stopped
from tests.jobs import make_job
from wan22_bridge.plans import PlanConstraints

CONFIG = GeneratorConfig(
    loaded_models=1,
    preload=[],
    all_models=[],
    checkpoint_interval_seconds=20,
    preview_interval_seconds=0,
    hang_seconds=60,
    constraints=PlanConstraints(),
)

ENDS: dict[str, tuple[Callable[[JobStore, str], object], ClaimState, Message]] = {
    "given back": (lambda store, job_id: store.runner.release(job_id, 1, False), ClaimState.GIVEN_BACK, Stopped()),
    "preempted": (lambda store, job_id: store.runner.request_preemption(job_id, 1), ClaimState.PREEMPTED, Preempted()),
    "cancelled": (lambda store, job_id: store.writer.request_cancel(job_id), ClaimState.LOST, Stopped()),
    "deleted": (lambda store, job_id: store.writer.delete(job_id), ClaimState.LOST, Stopped()),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_a_claim_stops_the_job_and_names_the_reason(how: str, tmp_path: Path) -> None:
    end, claim, message = ENDS[how]
    url = f"sqlite:///{tmp_path}/jobs.db"
    store = JobStore(url)
    submitted = store.writer.submit(make_job())
    job = store.runner.claim(submitted.id, lease_seconds=60)
    assert job is not None
    generator = Generator(url, tmp_path, None, [], cast(Any, None), CONFIG)
    stop = Stop()

    async def watch() -> None:
        watching = asyncio.create_task(generator._watch_claim(job, stop))
        await asyncio.sleep(0)
        end(store, job.id)
        await asyncio.wait_for(watching, 10)

    asyncio.run(watch())
    generator.__del__()  # as Serve calls it; waits for the import in the device's thread

    assert stop.is_set()
    assert (stop.claim, stop.message) == (claim, message)
